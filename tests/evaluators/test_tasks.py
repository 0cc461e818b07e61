"""Every line of the table, from the flag of the program to the figures in its JSON, on data in its real format."""

import csv
import json
from types import SimpleNamespace

import pytest

from clippy_jax import evaluate
from clippy_jax.datasets import label_layouts as layouts
from clippy_jax.evaluators.tasks import TASKS
from tests.evaluators import label_trees, trees
from tests.evaluators.fake_model import FakeModel

LAYOUTS = {
    "voc20": layouts.VOC_20,
    "context": layouts.PASCAL_CONTEXT_59,
    "context_background": layouts.PASCAL_CONTEXT_60,
    "ade20k": layouts.ADE20K,
    "coco": layouts.COCO_PANOPTIC,
    "coco_stuff": layouts.COCO_STUFF,
    "coco_object": layouts.COCO_OBJECT,
    "cityscapes": layouts.CITYSCAPES,
    "cityscapes19": layouts.CITYSCAPES_19,
}


def write(name, root):
    """Data for an evaluation; returns the path that its flag takes and how many images will be counted."""
    if name in LAYOUTS:
        label_trees.tree(root, LAYOUTS[name], [(40, 48), (48, 40)])
        return root, 2
    match name:
        case "open_vocabulary":
            label_trees.tree(root / "cityscapes", layouts.CITYSCAPES_19, [(40, 48)])
            return root, 1
        case "imagenet" | "imagenet_v2":
            return trees.image_folder(root, 5), 5
        case "wds":
            return trees.wds(root / "wds_fruit", 5).parent, 5
        case "voc" | "grouping":
            return trees.voc_tree(root, [(40, 40)] * 3), 3
        case "waterbirds":
            return trees.waterbirds_tree(root, "0011", "0101", "2222"), 4
        case "retrieval":
            images = sorted(trees.image_folder(root / "images", 4).glob("*/*.jpg"))
            with open(root / "pairs.csv", "w", newline="") as file:
                csv.writer(file).writerows([("filepath", "title"), *((path, f"caption of {path}") for path in images)])
            return root / "pairs.csv", 4
        case "knn" | "linear_probe":
            trees.image_folder(root / "train", 45, seed=1)
            trees.image_folder(root / "val", 6, seed=2)
            return root, 6
    raise AssertionError(f"no data for {name}: a new evaluation needs its line here")


@pytest.mark.parametrize("name", TASKS)
def test_flag_to_figures(name, tmp_path, monkeypatch, capsys):
    model = FakeModel(8)
    model.params = {"matrix": model.matrix}
    model.tokenizer = SimpleNamespace(digest=lambda: "words")
    monkeypatch.setattr(evaluate, "load_model", lambda checkpoint, tokenizer: model)
    path, images = write(name, tmp_path / "data")
    output = tmp_path / "results.json"
    evaluate.main(["--checkpoint=model", f"--{name}={path}", "--batch_size=8", "--class_cache=", f"--output={output}"])
    result = json.loads(output.read_text())[name]
    assert result["images"] == images and result["checkpoint"] == "model"
    assert f"{path}: {images} images of" in capsys.readouterr().out  # the table


def test_an_option_reaches_its_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "load_model", lambda checkpoint, tokenizer: pytest.fail("checked too late"))
    label_trees.tree(tmp_path, layouts.ADE20K, [(40, 48)])
    with pytest.raises(SystemExit):  # ADE20K has no background to find
        evaluate.main(["--checkpoint=model", f"--ade20k={tmp_path}", "--segmentation_background=similarity"])
