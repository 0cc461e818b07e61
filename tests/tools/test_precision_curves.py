import json

import numpy as np
import pytest

from tests import programs, small_run
from tests.xla_flags import xla_flags
from tools import precision_curves


def test_both_precisions_are_trained_with_every_seed_and_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.executable", programs.python())
    monkeypatch.setenv("PYTHONPATH", str(small_run.ROOT))
    monkeypatch.setenv("XLA_FLAGS", xla_flags(devices=1))
    data, output = tmp_path / "data", tmp_path / "curves.json"
    flags = small_run.flags(data, schedule__stop_step=5, evals__tasks__imagenet__path=f"{data}/imagenet/val")
    precision_curves.main(
        [*flags, f"--workdir={tmp_path}", "--seeds=0,7", "--window=2", f"--output={output}", "--precision=bfloat16"]
    )
    report = json.loads(output.read_text())
    names = ["loss, steps 1 to 2", "loss, steps 3 to 4", "imagenet/top1", "imagenet/top5"]
    assert list(report["comparison"]) == names and report["seeds"] == [0, 7] and report["overrides"] == flags[1:]
    for precision in ("float32", "bfloat16"):
        for seed in (0, 7):
            workdir = tmp_path / f"{precision}-{seed}"
            config = json.loads((workdir / "config.json").read_text())
            assert (config["model"]["precision"], config["seed"], config["input"]["seed"]) == (precision, seed, seed)
            lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
            losses = [line["loss"] for line in lines if "loss" in line]
            assert len(losses) == 5
            found = report["runs"][precision][str(seed)]
            np.testing.assert_allclose([found[name] for name in names[:2]], np.reshape(losses[:4], (2, 2)).mean(axis=1))
            assert 0 <= found["imagenet/top1"] <= found["imagenet/top5"] <= 1
    losses = report["comparison"]["loss, steps 1 to 2"]
    assert 0 < abs(losses["difference"]) < 0.02 < losses["deviation_over_seeds"]
    printed = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")][1:] == names


def test_differences_are_those_of_the_same_seed_and_the_deviation_that_of_a_sample():
    reference = {3: {"a": 1.0, "b": 5.0}, 4: {"a": 2.0, "b": 5.0}, 5: {"a": 6.0, "b": 5.0}}
    lower = {3: {"a": 1.5, "b": 5.0}, 4: {"a": 1.0, "b": 4.0}, 5: {"a": 6.25, "b": 6.0}}
    comparison = precision_curves.compare(reference, lower)
    expected = {"reference": 3.0, "lower": 8.75 / 3, "difference": -0.25 / 3, "largest_difference": -1.0}
    assert comparison["a"] == pytest.approx(expected | {"deviation_over_seeds": 7**0.5})
    assert comparison["b"]["deviation_over_seeds"] == 0
    row = precision_curves.table(comparison, "bfloat16").splitlines()[2]
    assert row.split() == "| a | 3.0000 | 2.9167 | -0.0833 | -1.0000 | 2.6458 |".split()


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--seeds=1"], "--seeds=1 must be two or more different numbers"),
        (["--seeds=1,1"], "--seeds=1,1 must be two or more different numbers"),
        (["--seeds=1,x"], "--seeds=1,x must be two or more different numbers"),
        (["--window=0"], "--window must be at least 1, not 0"),
        (["--output=nowhere/a.json"], "--output=nowhere/a.json must be a .json file in a folder"),
        (["--wrong=1"], "'--wrong=1' is not a flag"),
        (["--config.nothing=1"], "the command above ended with status 1"),
    ],
)
def test_wrong_commands_end_in_one_line(tmp_path, capfd, flags, message):
    with pytest.raises(SystemExit) as exit:
        precision_curves.main(
            [f"--config={small_run.ROOT}/configs/shapes.py", f"--workdir={tmp_path}", f"--output={tmp_path}/a.json"]
            + flags
        )
    error = capfd.readouterr().err.splitlines()
    assert exit.value.code == 1 and error[-1].startswith("error: ") and message in error[-1]
    assert not (tmp_path / "a.json").exists()
