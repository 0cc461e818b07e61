"""The folder that was meant is named where its parent, or one inside it, was given."""

import pytest

from clippy_jax.datasets import image_folder, label_layouts, segmentation_tree, waterbirds_tree
from clippy_jax.datasets.patterns import expand_files
from clippy_jax.errors import InputError
from clippy_jax.weights.kinds import kind_of


def voc(folder):
    segmentation_tree.read(str(folder), label_layouts.VOC)


def ade(folder):
    segmentation_tree.read(str(folder), label_layouts.ADE20K)


READERS = {
    "VOC": (voc, "VOC2012/JPEGImages/x", "VOCdevkit", "VOC2012"),
    "VOC, one too deep": (voc, "JPEGImages/x", "JPEGImages", "."),
    "ADE20K": (ade, "ADEChallengeData2016/images/validation/x", ".", "ADEChallengeData2016"),
    "Waterbirds": (lambda f: waterbirds_tree.read(str(f)), "birds/metadata.csv", ".", "birds"),
    "ImageNet": (lambda f: image_folder.read(str(f)), "val/n{:08d}/x", ".", "val"),
    "ImageNet, one too deep": (lambda f: image_folder.read(str(f)), "n{:08d}/x/x", "n00000003", "."),
    "train and val": (lambda f: image_folder.read_train_and_val(str(f)), "cars/{}/x/x", ".", "cars"),
    "shards": (lambda f: expand_files(str(f)), "a/b/0.tar", ".", "a/b"),
    "a run": (lambda f: kind_of(str(f)), "b16/checkpoints/x", "b16/checkpoints", "b16"),
    "a converted folder": (lambda f: kind_of(str(f)), "b16/params.safetensors", ".", "b16"),
}


@pytest.mark.parametrize("name", READERS)
def test_the_folder_that_was_meant_is_named(name, tmp_path):
    read, path, given, meant = READERS[name]
    root = tmp_path / ("VOCdevkit" if given == "VOCdevkit" else "")
    for part in [path.format(i) for i in range(1000)] if "{:" in path else [path.format(i) for i in ("train", "val")]:
        (root / part).parent.mkdir(parents=True, exist_ok=True)
        (root / part).touch()
    if name == "a run":
        (root / meant / "config.json").touch()
    with pytest.raises(InputError) as error:
        read(tmp_path / given)
    assert str((root / meant).resolve()) in str(error.value) and "\n" not in str(error.value)
