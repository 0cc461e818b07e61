import json

import numpy as np
import pytest

from clippy_jax.datasets import label_layouts as layouts
from clippy_jax.datasets import segmentation_tree
from clippy_jax.errors import InputError
from tests.evaluators import label_trees, trees


@pytest.mark.parametrize("layout", label_trees.FILES, ids=lambda layout: layout.name)
def test_reads_every_layout(tmp_path, layout):
    images, truths = label_trees.tree(tmp_path, layout, [(40, 30), (30, 40), (33, 33)])
    tree = segmentation_tree.read(str(tmp_path), layout)
    assert list(tree.images) == images and tree.split == layout.split
    for index, truth in enumerate(truths):
        assert tree.size(index) == truth.shape[::-1]
        np.testing.assert_array_equal(tree.labels(index), truth)


def test_lists_the_split_of_voc_in_its_order(tmp_path):
    tree = trees.voc_tree(tmp_path / "voc", [(20, 30), (30, 20)])
    (tree / "ImageSets/Segmentation/val.txt").write_text("scene_001\nscene_000\n")
    read = segmentation_tree.read(str(tree), layouts.VOC)
    assert [path.name for path in read.images] == ["scene_001.jpg", "scene_000.jpg"]
    assert [path.name for path in read.masks] == ["scene_001.png", "scene_000.png"]
    assert read.vocabulary.classes == trees.CLASSES


def refused(root, layout, split=None, index=None) -> str:
    with pytest.raises(InputError) as error:
        tree = segmentation_tree.read(str(root), layout, split)
        tree.labels(index)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_wrong_trees_are_one_line(tmp_path):
    ade = layouts.ADE20K
    assert "it must be a tree of ADE20K, 150 classes such as ADEChallengeData2016" in refused(tmp_path / "no", ade)
    assert "has no images/validation" in refused(tmp_path, ade)
    assert "has no val2017 or images/val2017" in refused(tmp_path, layouts.COCO_STUFF)
    images, _ = label_trees.tree(tmp_path, ade, [(40, 30), (30, 40)])
    assert "has no images/training" in refused(tmp_path, ade, "training")
    mask = tmp_path / "annotations/validation" / images[1].with_suffix(".png").name
    trees.save_mask(np.full((40, 30), 151), mask)
    assert f"{mask} holds label 151, which stands for no class; labels go from 0 to 150" in refused(
        tmp_path, ade, index=1
    )
    mask.unlink()
    assert f"{images[1]} has no mask" in refused(tmp_path, ade)
    for image in images:
        image.unlink()
    assert "holds no image *.jpg" in refused(tmp_path, ade)


def test_wrong_lists_of_voc_are_one_line(tmp_path):
    tree, voc = trees.voc_tree(tmp_path / "voc", [(20, 30), (30, 20)]), layouts.VOC
    assert "has no JPEGImages" in refused(tree / "ImageSets", voc)
    assert "train.txt does not exist; splits of this tree: val" in refused(tree, voc, "train")
    (tree / "SegmentationClass/scene_001.png").unlink()
    assert "scene_001.jpg has no mask" in refused(tree, voc)
    (tree / "JPEGImages/scene_001.jpg").unlink()
    assert "scene_001.jpg is in val.txt but does not exist" in refused(tree, voc)
    (tree / "ImageSets/Segmentation/val.txt").write_text("\n")
    assert "val.txt names no image" in refused(tree, voc)


def test_a_wrong_panoptic_json_is_one_line(tmp_path):
    label_trees.tree(tmp_path, layouts.COCO_PANOPTIC, [(40, 30), (30, 40)])
    file = tmp_path / "annotations/panoptic_val2017.json"
    values = json.loads(file.read_text())
    values["annotations"][1]["segments_info"][0]["category_id"] = 12
    file.write_text(json.dumps(values))
    assert "000000000001.png has a segment of category 12" in refused(tmp_path, layouts.COCO_PANOPTIC)
    file.write_text(json.dumps({"annotations": values["annotations"][:1]}))
    assert "does not list 000000000001.png" in refused(tmp_path, layouts.COCO_PANOPTIC)
    for field, wrong in (("category_id", {"a": 1}), ("id", "7"), ("category_id", None)):
        other = json.loads(json.dumps(values))
        other["annotations"][0]["segments_info"][0][field] = wrong
        file.write_text(json.dumps(other))
        assert "is no panoptic JSON of COCO" in refused(tmp_path, layouts.COCO_PANOPTIC)
    file.write_text('{"images": []}')
    assert "is no panoptic JSON of COCO" in refused(tmp_path, layouts.COCO_PANOPTIC)
    file.unlink()
    assert "panoptic_val2017.json cannot be read" in refused(tmp_path, layouts.COCO_PANOPTIC)


def test_a_tree_may_bring_other_words_for_its_classes(tmp_path):
    label_trees.tree(tmp_path, layouts.CITYSCAPES, [(40, 30)])
    names = [f"thing {number}" for number in range(27)]
    (tmp_path / "vocabulary.json").write_text(json.dumps({"classes": names}))
    tree = segmentation_tree.read(str(tmp_path), layouts.CITYSCAPES)
    assert tree.vocabulary.prompts[26] == "a photo of a thing 26" and not tree.vocabulary.is_packaged
    assert tree.class_of_value[33] == 26
    (tmp_path / "vocabulary.json").write_text(json.dumps({"classes": names[:19]}))
    assert '"classes" names 19 where Cityscapes, 27 names are expected' in refused(tmp_path, layouts.CITYSCAPES)


@pytest.mark.parametrize("ending", [".png", ".jpeg", ".JPG"])
@pytest.mark.parametrize("layout", [layouts.VOC, layouts.ADE20K], ids=lambda layout: layout.name)
def test_images_saved_anew_are_found_and_what_starts_with_a_dot_is_none(tmp_path, layout, ending):
    images, truths = label_trees.tree(tmp_path, layout, [(40, 30), (30, 40)])
    renamed = [path.rename(path.with_suffix(ending)) for path in images]
    (renamed[0].parent / f"._{renamed[0].name}").touch()
    tree = segmentation_tree.read(str(tmp_path), layout)
    assert list(tree.images) == renamed and tree.size(1) == truths[1].shape[::-1]


def test_the_home_folder_and_lists_with_a_byte_order_mark(tmp_path, monkeypatch):
    tree = trees.voc_tree(tmp_path / "voc", [(20, 30)])
    monkeypatch.setenv("HOME", str(tmp_path))
    (tree / "ImageSets/Segmentation/val.txt").write_text("scene_000\n", "utf-8-sig")
    assert segmentation_tree.read("~/voc", layouts.VOC).images == (tree / "JPEGImages" / "scene_000.jpg",)
