import json
import shutil

import numpy as np
import PIL.Image
import pytest
import scipy.stats

import clippy_jax
from clippy_jax import compare
from clippy_jax.evaluators import ZeroShotClassification
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel
from tools import ablation, demo


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The stages that take minutes, replaced: trees in Shapes' place, and a model for each workdir."""
    monkeypatch.chdir(tmp_path)
    trees.image_folder(tmp_path / demo.DATA / "imagenet/test", 20)
    trees.voc_tree(tmp_path / demo.DATA / "voc", [(40, 40)] * 7, "test")
    shutil.copy(
        tmp_path / demo.DATA / "voc/ImageSets/Segmentation/test.txt",
        tmp_path / demo.DATA / "voc/ImageSets/Segmentation/val.txt",
    )
    (tmp_path / demo.DATA / "dataset.json").write_text('{"version": 7}')
    trees.waterbirds_tree(tmp_path / demo.DATA / "waterbirds", "00110101", "01010011", "22222222")
    calls = []
    monkeypatch.setattr(demo, "render", lambda: 1.0)
    monkeypatch.setattr(demo, "train", lambda *call: calls.append(call) or 2.0)

    def load(workdir: str) -> FakeModel:
        model = FakeModel(8)
        pooling, seed = next((p, s) for p in ablation.POOLINGS for s in range(3) if workdir == ablation.workdir(p, s))
        model.config.pooling = pooling
        model.matrix = model.matrix + np.random.default_rng(seed).normal(size=model.matrix.shape).astype(np.float32)
        model.params = {"matrix": model.matrix}
        return model

    monkeypatch.setattr(clippy_jax, "load", load)
    return calls


def test_every_pooling_is_trained_evaluated_and_shown(trained, tmp_path, capsys):
    ablation.main([])
    poolings = ["max", "max_with_cls", "avg", "cls"]
    assert [(pooling, seed) for pooling, _, seed in trained] == [(pooling, 0) for pooling in poolings]
    assert trained[0][1] == "runs/shapes" and len({workdir for _, workdir, _ in trained}) == 4
    written = json.loads((tmp_path / "runs/ablation/results.json").read_text())
    assert list(written["poolings"]) == poolings
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    headings = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert headings == [
        "pooling",
        "seeds",
        "accuracy",
        "mIoU",
        "Jaccard",
        "gap of the landbird",
        "gap of the waterbird",
    ]
    for row, (pooling, of) in zip(rows[1:5], written["poolings"].items()):
        run = json.loads((tmp_path / f"runs/ablation/{pooling}-0.json").read_text())
        assert {result["pooling"] for result in run.values()} == {pooling}
        assert {result["split"] for result in run.values()} == {"test"}
        expected = [run[evaluation][figure] for evaluation, figure in ablation.FIGURES.values()]
        assert [figure["of_runs"] for figure in of["figures"].values()] == [[value] for value in expected]
        name, seeds, *shown = [cell.strip() for cell in row.strip("|").split("|")]
        assert (name, seeds) == (pooling, "1")
        np.testing.assert_allclose([float(cell.split()[0]) for cell in shown], 100 * np.array(expected), atol=0.051)
    assert [row.split("|")[1].strip() for row in rows[5:]] == ["paper, max", "paper, avg", "paper, cls"]
    assert "47.5" in rows[5] and "40.4" in rows[7]
    with PIL.Image.open(tmp_path / "runs/ablation/segments.png") as sheet:
        assert sheet.height > 5 * 200 and sheet.width > 6 * 200  # six scenes below each other, six columns


def test_seeds_are_added_to_what_is_there_and_nothing_is_measured_twice(trained, tmp_path, monkeypatch, capsys):
    ablation.main(["--poolings=max", "--output=first.json"])
    evaluated = []
    run = ZeroShotClassification.run
    monkeypatch.setattr(
        ZeroShotClassification, "run", lambda self, *args, **more: evaluated.append(1) or run(self, *args, **more)
    )
    ablation.main(["--poolings=max", "--seeds=3", "--output=three.json"])
    assert len(evaluated) == 2 and trained[-1] == ("max", "runs/shapes-max-seed2", 2)
    of = json.loads((tmp_path / "three.json").read_text())["poolings"]["max"]
    assert of["seeds"] == [0, 1, 2] and len(set(of["checkpoint_digests"])) == 3
    for figure in of["figures"].values():
        expected = scipy.stats.ttest_1samp(figure["of_runs"], 0).confidence_interval(0.95)
        np.testing.assert_allclose(figure["interval"], expected, atol=1e-12)
        assert figure["mean"] == pytest.approx(np.mean(figure["of_runs"]))
    rows = compare.compared(*(tmp_path / f"runs/ablation/max-{seed}.json" for seed in (0, 1)))
    assert {row.name for row in rows} >= {"segmentation miou", "waterbirds gap_landbird"}


def test_the_difference_of_poolings_is_that_of_the_same_seeds():
    random = np.random.default_rng(0)
    runs = {pooling: random.random((5, len(ablation.FIGURES))) for pooling in ("max", "cls")}

    def summary(seeds):
        of = {
            pooling: {
                "seeds": seeds[pooling],
                "figures": {
                    heading: {"mean": 0.5, "interval": [0.4, 0.6], "of_runs": list(column)}
                    for heading, column in zip(ablation.FIGURES, values[: len(seeds[pooling])].T)
                },
            }
            for pooling, values in runs.items()
        }
        return ablation.table({"poolings": of})

    row = next(line for line in summary({"max": [*range(5)], "cls": [*range(5)]}).splitlines() if "less" in line)
    for cell, cls, most in zip(row.strip("|").split("|")[2:], runs["cls"].T, runs["max"].T):
        low, high = scipy.stats.ttest_rel(cls, most).confidence_interval(0.95)
        shown = [float(number) for number in cell.replace("[", "").replace("]", "").replace(",", "").split()]
        np.testing.assert_allclose(shown, [100 * (cls - most).mean(), 100 * low, 100 * high], atol=0.051)
    assert "less" not in summary({"max": [0, 1, 2], "cls": [0, 1]})


@pytest.mark.parametrize("flag", ["--seeds=0", "--poolings=max,mean"])
def test_wrong_flags_are_one_line(trained, flag, capsys):
    with pytest.raises(SystemExit):
        ablation.main([flag])
    assert "--seeds must be at least 1 and --poolings some of max," in capsys.readouterr().err
