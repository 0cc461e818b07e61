import shutil

import numpy as np
import PIL.Image
import pytest
import sklearn.metrics
import torch

from clippy_jax.errors import InputError
from clippy_jax.evaluators import grouping, patch_groups
from clippy_jax.evaluators.grouping import Grouping
from clippy_jax.input_pipeline.evaluation_image import whole_image
from tests.evaluators import trees
from tests.evaluators.fake_model import PATCH, FakeModel

MIXED_SIZES = [(50, 40), (40, 50), (64, 64), (33, 71), (50, 40), (40, 50), (64, 64), (50, 41), *[(50, 40)] * 3]
SETTINGS = dict(batch_size=8, image_size=32, progress=False)


def add_instances(tree, seed=0):
    """Instance masks that cut the labelled blocks up, so that classes and instances differ."""
    (tree / "SegmentationObject").mkdir()
    for path in sorted((tree / "SegmentationClass").iterdir()):
        labels = np.asarray(PIL.Image.open(path)).astype(int)
        left = np.arange(labels.shape[1]) < labels.shape[1] // 2
        instances = np.where(labels % 255, 2 * labels - left, labels)
        trees.save_mask(instances, tree / "SegmentationObject" / path.name)


def predicted_masks(model, pixels, groups, height, width) -> np.ndarray:
    """Groups of pixels the long way, by PyTorch."""
    if groups == "pca":
        similarities = np.asarray(patch_groups.centre_similarities(model.encode_image(pixels[None])[0][0]))
        maps = torch.tensor(similarities).permute(2, 0, 1)[None].double()
        maps = torch.nn.functional.interpolate(maps, (height, width), mode="bilinear", align_corners=False)
        return (maps[0].argmax(0) == torch.arange(maps.shape[1])[:, None, None]).numpy()
    masks = np.array(patch_groups.attention_masks(np.asarray(model.attention(pixels[None])[0])))
    masks = torch.tensor(masks).float()[None]
    return torch.nn.functional.interpolate(masks, (height, width), mode="nearest-exact")[0].bool().numpy()


def brute_force(tree, masks, groups) -> tuple[float, int, int]:
    """Object after object by scikit-learn: Jaccard, images and objects."""
    model, means, objects = FakeModel(), [], 0
    for path in sorted((tree / masks).iterdir()):
        labels = np.asarray(PIL.Image.open(path))
        pixels = whole_image(PIL.Image.open(tree / "JPEGImages" / f"{path.stem}.jpg"), 32, PATCH)
        predicted = predicted_masks(model, pixels, groups, *labels.shape)
        kept = labels != 255
        best = [
            max(sklearn.metrics.jaccard_score(labels[kept] == label, mask[kept], zero_division=0) for mask in predicted)
            for label in sorted(set(labels[kept].tolist()) - {0})
        ]
        objects += len(best)
        means += [np.mean(best)] if best else []
    return np.mean(means), len(means), objects


@pytest.mark.parametrize("groups", ["pca", "attention"])
@pytest.mark.parametrize("masks", ["SegmentationClass", "SegmentationObject"])
def test_equals_brute_force_on_any_number_of_devices(tmp_path, groups, masks):
    tree = trees.voc_tree(tmp_path, MIXED_SIZES)
    trees.save_mask(np.zeros((40, 50)), tree / "SegmentationClass" / "scene_004.png")  # nothing in it
    if masks == "SegmentationObject":
        add_instances(tree)
    one, eight = (Grouping(str(tree), groups).run(FakeModel(devices), **SETTINGS) for devices in (1, 8))
    assert (one.jaccard, one.images, one.objects) == (eight.jaccard, eight.images, eight.objects)
    jaccard, images, objects = brute_force(tree, masks, groups)
    assert (one.images, one.objects) == (images, objects) and images == len(MIXED_SIZES) - 1
    assert one.jaccard == pytest.approx(jaccard, abs=1e-9) and 0 < jaccard < 1
    assert masks in one.protocol and one.figures() == {"jaccard": one.jaccard}


def test_published_numbers_stand_beside_their_own_protocol_only(tmp_path):
    tree = trees.voc_tree(tmp_path, [(40, 40)] * 2, words=False)
    shutil.copy(tree / "ImageSets/Segmentation/val.txt", tree / "ImageSets/Segmentation/train.txt")
    at_224 = SETTINGS | dict(image_size=224)
    assert "paper" not in Grouping(str(tree)).run(FakeModel(), **at_224).report()  # classes are no instances
    add_instances(tree)
    assert "54.6" in Grouping(str(tree)).run(FakeModel(), **at_224).report()
    for options, settings in ((dict(split="train"), at_224), (dict(groups="attention"), at_224), ({}, SETTINGS)):
        assert "paper" not in Grouping(str(tree), **options).run(FakeModel(), **settings).report()


def test_best_overlaps_by_hand():
    labels = np.array([[1, 1, 1, 2], [1, 1, 1, 255], [0, 0, 255, 255]], np.uint8)
    masks = np.zeros((3, 3, 4), bool)
    masks[0, :2, :2] = True  # 4 of the 6 pixels of object 1
    masks[1, :, 2:] = True  # 2 more, object 2, three void pixels
    masks[2, 2, :2] = True  # background
    counts = np.asarray(grouping.count_overlaps(labels, masks))
    assert counts[1].tolist() == [4, 2, 0, 6] and counts[2].tolist() == [0, 1, 0, 1]
    assert counts[0].tolist() == [0, 0, 2, 2] and counts.sum() == 4 + 6 + 2 + labels.size
    # Object 1: 4 / 6 with the first group. Object 2: 1 / 3, since the void pixels do not count.
    np.testing.assert_allclose(grouping.best_overlaps(counts), [4 / 6, 1 / 3])


def test_random_overlaps_equal_brute_force():
    random = np.random.default_rng(2)
    labels = random.choice(np.array([0, 1, 7, 254, 255], np.uint8), (37, 61))
    masks = random.random((5, 37, 61)) < random.random((5, 1, 1))
    masks[3] = False
    ours = grouping.best_overlaps(np.asarray(grouping.count_overlaps(labels, masks)))
    kept = labels != 255
    expected = [
        max(((labels == label) & mask).sum() / (((labels == label) | mask) & kept).sum() for mask in masks)
        for label in (1, 7, 254)
    ]
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_one_pixel_objects_and_pictures_of_one_colour(tmp_path):
    tree = trees.voc_tree(tmp_path, [(40, 40)])
    PIL.Image.new("RGB", (40, 40), (90, 90, 90)).save(tree / "JPEGImages" / "scene_000.jpg")
    labels = np.zeros((40, 40), np.uint8)
    labels[:10] = 255
    labels[39, 39] = 2
    trees.save_mask(labels, tree / "SegmentationClass" / "scene_000.png")
    result = Grouping(str(tree)).run(FakeModel(), **SETTINGS)
    assert result.jaccard == pytest.approx(1 / 1200) and result.objects == 1  # the only group is all that is not void


def test_two_colours_are_told_apart(tmp_path):
    tree = trees.voc_tree(tmp_path, [(64, 64)])
    pixels = np.full((64, 64, 3), (20, 90, 200), np.uint8)
    pixels[16:32, 16:48] = (250, 200, 10)
    PIL.Image.fromarray(pixels).save(tree / "JPEGImages" / "scene_000.png")
    (tree / "JPEGImages" / "scene_000.png").rename(tree / "JPEGImages" / "scene_000.jpg")
    labels = np.zeros((64, 64), np.uint8)
    labels[16:32, 16:48] = 1
    trees.save_mask(labels, tree / "SegmentationClass" / "scene_000.png")
    result = Grouping(str(tree)).run(FakeModel(), **SETTINGS | dict(image_size=64))
    assert result.jaccard > 0.8


def refused(tree, **options):
    with pytest.raises(InputError) as error:
        Grouping(str(tree), **options).run(FakeModel(), **SETTINGS)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_wrong_trees_are_one_line(tmp_path):
    tree = trees.voc_tree(tmp_path, [(40, 40)] * 3)
    assert "test.txt does not exist" in refused(tree, split="test")
    add_instances(tree)
    mask = tree / "SegmentationObject" / "scene_001.png"
    trees.save_mask(np.zeros((5, 6)), mask)
    assert "SegmentationObject/scene_001.png is 6x5 but its image is 40x40" in refused(tree)
    mask.unlink()
    assert "scene_001.jpg has no mask of its objects" in refused(tree)
    for path in (tree / "SegmentationObject").iterdir():
        path.unlink()
    (tree / "SegmentationObject").rmdir()
    trees.save_mask(np.full((40, 40), 4), tree / "SegmentationClass" / "scene_002.png")
    assert "scene_002.png holds label 4, which stands for no class; labels go from 0 to 3" in refused(tree)
    for path in (tree / "SegmentationClass").iterdir():
        trees.save_mask(np.zeros((40, 40)), path)
    assert "no mask of val has an object" in refused(tree)


def test_unreadable_images_are_named_and_not_counted(tmp_path):
    tree = trees.voc_tree(tmp_path, [(16, 16)] * 100)
    (tree / "JPEGImages" / "scene_007.jpg").write_bytes(b"no image")
    result = Grouping(str(tree)).run(FakeModel(8), **SETTINGS)
    assert len(result.unreadable) == 1 and "scene_007.jpg" in result.unreadable[0] and result.images == 99
