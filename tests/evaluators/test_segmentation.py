import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import sklearn.metrics
import torch

from clippy_jax.datasets import label_layouts, segmentation_tree
from clippy_jax.errors import InputError
from clippy_jax.evaluators import confusion_matrix
from clippy_jax.evaluators.segmentation import Segmentation
from clippy_jax.input_pipeline.evaluation_image import whole_image
from tests.evaluators import trees
from tests.evaluators.fake_model import PATCH, FakeModel

MIXED_SIZES = [(50, 40), (40, 50), (64, 64), (33, 71), (50, 40), (40, 50), (64, 64), (50, 41), *[(50, 40)] * 3]
SETTINGS = dict(batch_size=8, image_size=32, progress=False)


def torch_prediction(model, pixels, prompts, height, width):
    """Names pixels the long way: features upsampled by PyTorch, then compared."""
    patches, _ = model.encode_image(pixels[None])
    features = torch.tensor(np.asarray(patches)).permute(0, 3, 1, 2).double()
    features = torch.nn.functional.interpolate(features, (height, width), mode="bilinear", align_corners=False)
    classes = torch.tensor(model.encode_text(prompts)).double()
    return torch.einsum("dhw,cd->chw", features[0], classes).argmax(0).numpy()


def reference_confusion(tree, model, split, protocol, size=32):
    """The confusion matrix by scikit-learn, image after image."""
    words = segmentation_tree.read(str(tree), label_layouts.VOC, split).vocabulary
    total = np.zeros((len(words.classes),) * 2, np.int64)
    for name in (tree / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split():
        image = PIL.Image.open(tree / "JPEGImages" / f"{name}.jpg")
        mask = PIL.Image.open(tree / "SegmentationClass" / f"{name}.png")
        if protocol == "public":
            width, height = image.size
            resized = [int(size * length / min(width, height)) for length in (width, height)]
            image = image.resize(resized, PIL.Image.BICUBIC)
            left, top = round((image.width - size) / 2), round((image.height - size) / 2)
            pixels = np.asarray(image)[top : top + size, left : left + size]
            labels = np.asarray(mask.resize((size, size)))
        else:
            pixels = whole_image(image, size, PATCH)
            labels = np.asarray(mask)
        predicted = torch_prediction(model, pixels, list(words.prompts), *labels.shape)
        predicted[predicted >= len(words.classes)] = 0
        kept = labels != 255
        total += sklearn.metrics.confusion_matrix(labels[kept], predicted[kept], labels=range(len(words.classes)))
    return total


@pytest.mark.parametrize("protocol, split", [("public", "train"), ("standard", "val")])
@pytest.mark.parametrize("devices", [1, 8])
def test_equals_scikit_learn_on_upsampled_features(tmp_path, protocol, split, devices):
    tree = trees.voc_tree(tmp_path, MIXED_SIZES, split)
    result = Segmentation(str(tree), protocol=protocol).run(FakeModel(devices), **SETTINGS)
    expected = reference_confusion(tree, FakeModel(), split, protocol)
    np.testing.assert_array_equal(result.confusion, expected)
    union = expected.sum(0) + expected.sum(1) - np.diag(expected)
    assert result.miou == pytest.approx(np.mean(np.diag(expected) / union), abs=1e-12)
    assert result.pixel_accuracy == pytest.approx(np.trace(expected) / expected.sum(), abs=1e-12)
    assert (result.split, result.protocol, result.images) == (split, protocol, len(MIXED_SIZES))


def test_the_packaged_vocabulary_folds_39_names_into_background(tmp_path):
    tree = trees.voc_tree(tmp_path, MIXED_SIZES[:4], words=False)
    model = FakeModel()
    result = Segmentation(str(tree)).run(model, **SETTINGS)
    expected = reference_confusion(tree, FakeModel(), "val", "standard")
    np.testing.assert_array_equal(result.confusion, expected)
    assert expected.shape == (21, 21) and expected[:, 0].sum() > 0
    assert len(model.encoded[0]) == 60


def test_a_one_pixel_object_counts_as_one_pixel(tmp_path):
    tree = trees.voc_tree(tmp_path, [(45, 37)])
    labels = np.zeros((37, 45), np.uint8)
    labels[36, 44] = 2
    trees.save_mask(labels, tree / "SegmentationClass" / "scene_000.png")
    result = Segmentation(str(tree)).run(FakeModel(), **SETTINGS)
    confusion = np.array(result.confusion)
    assert confusion[2].sum() == 1 and confusion.sum() == 37 * 45


def test_more_pixels_than_a_32_bit_count_holds(tmp_path, monkeypatch):
    def many(labels, predicted, number_of_classes):
        return jnp.zeros((number_of_classes, number_of_classes), jnp.int32).at[1, 1].set(2**30)

    monkeypatch.setattr(confusion_matrix, "confusion_matrix", many)
    tree = trees.voc_tree(tmp_path, [(72, 72)] * 5)
    result = Segmentation(str(tree)).run(FakeModel(), **SETTINGS | dict(batch_size=1, image_size=72))
    assert np.sum(result.confusion) == 5 * 2**30


def refused(tree, **changes):
    split = changes.pop("split", None)
    with pytest.raises(InputError) as error:
        Segmentation(str(tree), split=split).run(FakeModel(), **SETTINGS | changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_names_a_mask_of_another_size(tmp_path):
    tree = trees.voc_tree(tmp_path, MIXED_SIZES)
    trees.save_mask(np.zeros((5, 6)), tree / "SegmentationClass" / "scene_004.png")
    assert "scene_004.png is 6x5 but its image is 50x40" in refused(tree)


def test_names_a_label_out_of_range(tmp_path):
    tree = trees.voc_tree(tmp_path, MIXED_SIZES)
    trees.save_mask(np.full((64, 64), 4), tree / "SegmentationClass" / "scene_006.png")
    assert "scene_006.png holds label 4, which stands for no class; labels go from 0 to 3" in refused(tree)


def test_names_a_mask_cut_short(tmp_path):
    tree = trees.voc_tree(tmp_path, MIXED_SIZES)
    mask = tree / "SegmentationClass" / "scene_005.png"
    mask.write_bytes(mask.read_bytes()[:-60])
    assert "scene_005.png cannot be read as a mask" in refused(tree)


@pytest.mark.parametrize("damage", [b"no image", None])
def test_more_than_one_percent_unreadable_images_stop(tmp_path, damage):
    tree = trees.voc_tree(tmp_path, MIXED_SIZES)
    image = tree / "JPEGImages" / "scene_002.jpg"
    image.write_bytes(damage or image.read_bytes()[:700])
    message = refused(tree)
    assert "1 of 11 images cannot be read, more than 1%" in message and "scene_002.jpg" in message


def test_a_few_unreadable_images_are_named_and_not_counted(tmp_path):
    tree = trees.voc_tree(tmp_path, [(16, 16)] * 100)
    (tree / "JPEGImages" / "scene_007.jpg").write_bytes(b"no image")
    result = Segmentation(str(tree)).run(FakeModel(), **SETTINGS)
    assert result.images == 99 and len(result.unreadable) == 1 and "scene_007.jpg" in result.unreadable[0]
    labels = [np.asarray(PIL.Image.open(path)) for path in sorted((tree / "SegmentationClass").iterdir())]
    assert np.sum(result.confusion) == sum((mask != 255).sum() for i, mask in enumerate(labels) if i != 7)


def test_nothing_labelled_is_refused(tmp_path):
    tree = trees.voc_tree(tmp_path, [(16, 16)])
    trees.save_mask(np.full((16, 16), 255), tree / "SegmentationClass" / "scene_000.png")
    assert "no mask of val has a labelled pixel" in refused(tree)


def test_sizes_that_do_not_fit_are_refused(tmp_path):
    tree = trees.voc_tree(tmp_path, [(16, 16)])
    assert "image_size is 30, which patches of 8 pixels do not divide; use 32" in refused(tree, image_size=30)
    with pytest.raises(InputError, match="batch_size is 6, which 8 devices do not divide"):
        Segmentation(str(tree)).run(FakeModel(8), **SETTINGS | dict(batch_size=6))
