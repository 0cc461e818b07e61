import json

import numpy as np
import PIL.Image
import pytest

import clippy_jax
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel
from tools import ablation, demo


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The stages that take minutes, replaced: trees in Shapes' place, and a model for each workdir."""
    monkeypatch.chdir(tmp_path)
    trees.image_folder(tmp_path / demo.DATA / "imagenet/val", 20)
    trees.voc_tree(tmp_path / demo.DATA / "voc", [(40, 40)] * 7)
    trees.waterbirds_tree(tmp_path / demo.DATA / "waterbirds", "00110101", "01010011", "22222222")
    calls = []
    monkeypatch.setattr(demo, "render", lambda: 1.0)
    monkeypatch.setattr(demo, "train", lambda *call: calls.append(call) or 2.0)

    def load(workdir: str) -> FakeModel:
        model = FakeModel(8)
        model.config.pooling = {workdir: pooling for pooling, workdir in ablation.WORKDIRS.items()}[workdir]
        model.params = {"matrix": model.matrix}
        return model

    monkeypatch.setattr(clippy_jax, "load", load)
    return calls


def test_every_pooling_is_trained_evaluated_and_shown(trained, tmp_path, capsys):
    ablation.main()
    poolings = ["max", "max_with_cls", "avg", "cls"]
    assert [pooling for pooling, _ in trained] == poolings
    assert len({workdir for _, workdir in trained}) == 4
    written = json.loads((tmp_path / "runs/ablation/results.json").read_text())
    assert list(written["pooling"]) == poolings and written["seconds"]["train avg"] == 2.0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert (
        rows[0].split()
        == "| pooling | accuracy | mIoU | Jaccard | gap of the landbird | gap of the waterbird |".split()
    )
    for row, (pooling, of) in zip(rows[1:5], written["pooling"].items()):
        assert {result["pooling"] for result in of.values()} == {pooling}
        expected = [of["classification"]["top1"], of["segmentation"]["miou"], of["grouping"]["jaccard"]]
        expected += of["waterbirds"]["domain_gap"].values()
        name, *shown = [cell.strip() for cell in row.strip("|").split("|")]
        assert name == pooling
        np.testing.assert_allclose([float(cell) for cell in shown], 100 * np.array(expected), atol=0.051)
    assert [row.split("|")[1].strip() for row in rows[5:]] == ["paper, max", "paper, avg", "paper, cls"]
    assert "47.5" in rows[5] and "40.4" in rows[7]
    with PIL.Image.open(tmp_path / "runs/ablation/segments.png") as sheet:
        assert sheet.height > 5 * 200 and sheet.width > 6 * 200  # six scenes below each other, six columns
    assert sorted(path.name for path in (tmp_path / "runs/ablation").iterdir()) == ["results.json", "segments.png"]
