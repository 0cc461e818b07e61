"""The benchmarks at their smallest: all cases are measured, printed and written."""

import json
import math
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests import programs
from tests.test_dependencies import BARE

BENCHMARK = pathlib.Path(__file__).parents[2] / "tools" / "benchmark.py"
SPEED = "of one device's speed"
PAPER = {"GB a device", "TFLOP a device", "s on paper", SPEED}
ALONE = {"MB", "TFLOP", "GFLOP", "TFLOP/s", "1 / 255", "of the evaluation's"} | PAPER  # units of what has no peer
SHARE = "FLOPs/s over the matmul rate"
# With jax, flax, optax, jaxtyping and torch alone.
ON_A_BARE_MACHINE = {"step", "inference", "loss", "choices", "device"}


def run(*arguments, executable=sys.executable, **environment):
    return subprocess.run(
        [executable, str(BENCHMARK), *arguments], env=os.environ | environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "arguments, cases, units",
    [
        (
            ("step", "--batch_size=2", "--steps=2", "--peers=eager", "--settings", "captions of real lengths"),
            8,
            {"s", "GB", "TFLOP", "TFLOP/s", SHARE},
        ),
        (
            ("step", "--batch_size=4", "--steps=2", "--peers", "--settings", "texts of 77 tokens", "4 microbatches"),
            14,
            {"s", "GB", "TFLOP", "TFLOP/s"},
        ),
        (
            ("inference", "--batch_size", "2", "--steps=2", "--peers=eager", "--precision=bfloat16"),
            5,
            {"images/s", "GB", "GFLOP", "TFLOP/s", SHARE},
        ),
        (("inference", "--batch_size", "2", "--steps=1", "--peers"), 4, {"images/s", "GB", "GFLOP", "TFLOP/s"}),
        (("loss", "--steps=2"), 10, {"s", "MB"}),
        (("loss", "--steps=1", "--peers"), 10, {"s", "MB"}),
        (("memory",), 6, {"GB a device"}),
        (("segmentation",), 2, {"GB a device"}),
        (("evaluation",), 4, {"of the evaluation's"}),
        (("choices", "--steps=2"), 4, {"CPU-seconds"}),
        (("scaling", "--teraflops=100", "--link_gigabytes_per_second=10"), 40, PAPER),
        (("input", "--batch_size=4", "--steps=2"), 5, {"images per CPU-second", "1 / 255"}),
    ],
)
def test_smallest_run_reports_every_case(arguments, cases, units, tmp_path):
    command, output = arguments[0], tmp_path / "new folder" / "report.json"
    if command in ON_A_BARE_MACHINE:
        (tmp_path / "sitecustomize.py").write_text(BARE)  # run first by Python, in the processes of the sides as well
    executable = sys.executable if command in ON_A_BARE_MACHINE else programs.python()
    arguments = (*arguments, "--size=tiny", f"--output={output}")
    result = run(*arguments, executable=executable, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    report = json.loads(output.read_text())
    assert report["environment"]["cores"] >= 1 and "cpu" in report["environment"]["device"]
    assert len(report["cases"]) == cases and {case["unit"] for case in report["cases"]} == units
    for case in report["cases"]:
        assert case["name"] in result.stdout
        assert case["ours"] > 0
        assert case["ours"] < 1 or command != "segmentation"
        if (command == "step" or case["unit"] in ALONE or "--peers" in arguments) and "beside" not in case["name"]:
            assert case["peer"] is None and case["ratio"] is None
        else:
            assert math.isclose(case["ratio"], case["ours"] / case["peer"]) and case["peer"] > 0
    assert list(output.parent.iterdir()) == [output]
    parts = re.findall(r"^(\d+)/(\d+) after \d+ s", result.stderr, re.MULTILINE)
    assert parts == [(str(i + 1), str(len(parts))) for i in range(len(parts))] and parts


@pytest.mark.parametrize(
    "arguments",
    [
        ("step", "--batch_size=0", "--output=x.json"),
        ("step", "--batch_size=6", "--settings=rematerialised, 4 microbatches", "--output=x.json"),
        ("scaling", "--teraflops=100", "--output=x.json"),
        ("scaling", "--teraflops=100", "--link_gigabytes_per_second=0", "--output=x.json"),
        ("step",),
        ("speed",),
    ],
)
def test_wrong_arguments_end_in_a_usage_line(arguments):
    result = run(*arguments, executable=programs.python(), PYTHONPATH=str(programs.ROOT))
    assert result.returncode == 2 and "error: " in result.stderr and "Traceback" not in result.stderr
