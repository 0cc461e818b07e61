"""The list of runs: each can be started, those made are not made again, and one that fails leaves the rest going."""

import json

import pytest

from tests.test_dependencies import BARE
from tests.tools.test_benchmark import run
from tools import benchmark
from tools.benchmarks import gpu


@pytest.mark.parametrize("size", ["b16", "tiny"])
@pytest.mark.parametrize("peers", [["eager", "compiled"], []])
def test_every_run_is_a_command_line_of_the_benchmark(size, peers):
    runs = gpu.parts(size, peers)
    assert len({part.name for part in runs}) == len(runs) > 10
    for part in runs:
        arguments = benchmark.flags().parse_args([*part.arguments, "--output=x"])
        assert arguments.size in (size, "full")
        assert arguments.command != "step" or arguments.batch_size % 4 == 0  # for 4 microbatches


def fake_run(results):
    """In the place of a run: its result by its first argument, and a note that it was made."""
    made = []

    def make(part, output, seconds):
        made.append(part.arguments[0])
        return {"seconds": 1.0} | results[part.arguments[0]]

    return make, made


def test_runs_are_made_once_and_those_that_failed_once_more_after_the_others(tmp_path, monkeypatch):
    output = tmp_path / "gpu.json"
    report, error = {"report": {"cases": []}}, {"error": "OSError: no such card"}
    wanted = [gpu.Part((name,)) for name in "abc"]
    make, made = fake_run({"a": error, "b": report})
    monkeypatch.setattr(gpu, "_run", make)
    gpu.run_parts(wanted[:2], output, minutes=1)
    make, again = fake_run({"a": report, "c": report})
    monkeypatch.setattr(gpu, "_run", make)
    found = gpu.run_parts(wanted, output, minutes=1)
    assert made == ["a", "b"] and again == ["c", "a"]
    assert json.loads(output.read_text()) == found
    assert all("report" in found["parts"][name] for name in "abc")
    assert gpu.run_parts(wanted, output, minutes=0) == found  # nothing is left


def test_when_the_memory_is_full_larger_batches_are_left_out(tmp_path, monkeypatch):
    names = ("256", "512", "1024", "other", "loss")
    wanted = [gpu.Part((name,), grows="kept" if name.isdigit() else "others" * (name == "other")) for name in names]
    full = {"error": "jaxlib.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate"}
    make, made = fake_run(dict.fromkeys(names, {"report": {"cases": []}}) | {"512": full})
    monkeypatch.setattr(gpu, "_run", make)
    found = gpu.run_parts(wanted, tmp_path / "gpu.json", minutes=1)
    assert made == ["256", "512", "other", "loss"]
    assert "512 (1 s): jaxlib.XlaRuntimeError: RESOURCE_EXHAUSTED" in gpu.table(found)


def test_a_run_that_fails_leaves_its_line_and_the_rest_go_on(tmp_path):
    output = tmp_path / "gpu.json"
    wrong = gpu.Part(("step", "--batch_size=0"))
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(BARE)  # run first by Python, in the processes of the sides, too
    right = gpu.Part(("device", "--size=tiny", "--peers", "eager"), {"PYTHONPATH": str(tmp_path / "bare")})
    found = gpu.run_parts([wrong, right], output, minutes=5)["parts"]
    assert "benchmark.py: error: --batch_size, --steps and --turns must be at least 1" in found[wrong.name]["error"]
    cases = found[right.name]["report"]["cases"]
    assert [case["unit"] for case in cases] == ["TFLOP/s"] * 3 + ["GB/s"] * 2
    assert all(case["ours"] > 0 for case in cases) and all(case["peer"] > 0 for case in cases[:4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", output.name]


def test_without_a_gpu_it_says_so(tmp_path):
    done = run("gpu", f"--output={tmp_path}/gpu.json")
    assert done.returncode == 1 and done.stderr.strip().splitlines() == [
        "error: JAX sees no GPU here, only a CPU; --size=tiny tries the command out"
    ]
