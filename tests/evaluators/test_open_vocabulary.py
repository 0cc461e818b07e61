import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from clippy_jax import compare, evaluate
from clippy_jax.datasets import label_layouts as layouts
from clippy_jax.evaluators import OpenVocabulary, Segmentation
from clippy_jax.evaluators.protocols import COLUMNS
from tests.evaluators import label_trees
from tests.evaluators.fake_model import FakeModel

PLACES = {
    "VOCdevkit/VOC2012": layouts.VOC,
    "VOCdevkit/VOC2010": layouts.PASCAL_CONTEXT_60,
    "coco_stuff164k": layouts.COCO_STUFF,
    "cityscapes": layouts.CITYSCAPES_19,
    "ade/ADEChallengeData2016": layouts.ADE20K,
}
LAYOUTS = {layout.column: layout for layout in vars(layouts).values() if getattr(layout, "column", "")}
SETTINGS = dict(batch_size=8, image_size=32)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for seed, (place, layout) in enumerate(PLACES.items()):
        label_trees.tree(root / place, layout, [(40, 48), (48, 40)], seed)
    return root


@pytest.fixture
def model(monkeypatch, tmp_path):
    model = FakeModel(8)
    model.params = {"matrix": model.matrix}
    model.tokenizer = SimpleNamespace(digest=lambda: "words")
    monkeypatch.setattr(evaluate, "load_model", lambda checkpoint, tokenizer: model)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return model


def test_all_eight_stand_in_one_table_with_their_average(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    result = OpenVocabulary("~").run(FakeModel(8), **SETTINGS)
    assert tuple(result.parts) == COLUMNS and result.images == 16
    for place, layout in PLACES.items():
        alone = Segmentation(str(root / place), layout).run(FakeModel(8), **SETTINGS)
        assert result.parts[layout.column].confusion == alone.confusion
    mious = [result.parts[column].miou for column in COLUMNS]
    assert result.average == np.mean(mious) == result.figures()["average"]
    row = next(line for line in result.report().splitlines() if line.startswith("| this checkpoint"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == [f"{100 * miou:.1f}" for miou in (*mious, result.average)]
    assert [part.data_set for part in result.parts.values()] == [LAYOUTS[column].name for column in COLUMNS]


def test_what_is_missing_is_blank_and_published_rows_are_of_the_protocol(tmp_path, root, model, capsys):
    shutil.copytree(root / "cityscapes", tmp_path / "data/cityscapes")
    shutil.copytree(root / "VOCdevkit/VOC2012", tmp_path / "data/VOCdevkit/VOC2012")
    command = [
        "--checkpoint=model",
        f"--open_vocabulary={tmp_path}/data",
        "--batch_size=8",
        f"--output={tmp_path}/a.json",
    ]
    evaluate.main([*command, "--segmentation_protocol=naclip"])
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("| this checkpoint"))
    blank = [not cell.strip() for cell in row.split("|")[2:-1]]
    assert blank == [column not in ("VOC21", "VOC20", "City") for column in COLUMNS] + [True]
    assert "NACLIP, with PAMR" in printed and " 42.5 |" in printed and "SCLIP  " not in printed
    results = json.loads((tmp_path / "a.json").read_text())
    assert list(results) == ["open_vocabulary", *(f"open_vocabulary/{name}" for name in ("VOC21", "VOC20", "City"))]
    city = results["open_vocabulary/City"]
    assert city["options"]["refinements"] == 10 and city["intervals"]["miou"][0] <= city["miou"]
    assert results["open_vocabulary"]["miou_City"] == city["miou"] and city["checkpoint"] == "model"
    assert {row.difference.value for row in compare.compared(tmp_path / "a.json", tmp_path / "a.json")} == {0}


def test_wrong_folders_and_protocols_are_one_line(tmp_path, root, model, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "load_model", lambda *_: pytest.fail("checked too late"))

    def refused(folder, *flags) -> str:
        with pytest.raises(SystemExit):
            evaluate.main(["--checkpoint=model", f"--open_vocabulary={folder}", *flags])
        return capsys.readouterr().err.splitlines()[-1]

    assert "holds no data set of open-vocabulary segmentation: VOCdevkit/VOC2012, VOC2012" in refused(tmp_path)
    assert "protocol 'other' is not known; known here: standard" in refused(root, "--segmentation_protocol=other")
    shutil.copytree(root / "cityscapes", tmp_path / "cityscapes")
    shutil.rmtree(tmp_path / "cityscapes/gtFine")
    assert "cityscapes has no gtFine/val; it must be a tree of Cityscapes" in refused(tmp_path)
    assert "belongs to an evaluation that is not asked for" in refused(root, "--segmentation_window=32")
