import pytest

from clippy_jax.datasets import voc_tree
from clippy_jax.errors import InputError
from tests.evaluators import trees


@pytest.fixture
def tree(tmp_path):
    return trees.voc_tree(tmp_path / "voc", [(20, 30), (30, 20)])


def refused(folder, split="val") -> str:
    with pytest.raises(InputError) as error:
        voc_tree.read(str(folder), split)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_lists_the_split_in_its_order(tree):
    (tree / "ImageSets/Segmentation/val.txt").write_text("scene_001\nscene_000\n")
    read = voc_tree.read(str(tree), "val")
    assert [path.name for path in read.images] == ["scene_001.jpg", "scene_000.jpg"]
    assert [path.name for path in read.masks] == ["scene_001.png", "scene_000.png"]
    assert read.vocabulary.classes == trees.CLASSES


def test_wrong_trees_are_one_line(tree):
    assert "missing is not a folder" in refused(tree / "missing")
    assert "has no JPEGImages" in refused(tree / "ImageSets")
    assert "train.txt does not exist; splits of this tree: val" in refused(tree, "train")
    (tree / "SegmentationClass/scene_001.png").unlink()
    assert "scene_001.jpg has no mask" in refused(tree)
    (tree / "JPEGImages/scene_001.jpg").unlink()
    assert "scene_001.jpg is in val.txt but does not exist" in refused(tree)
    (tree / "ImageSets/Segmentation/val.txt").write_text("\n")
    assert "val.txt names no image" in refused(tree)
