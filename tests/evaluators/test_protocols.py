import jax
import numpy as np
import PIL.Image
import pytest
import sklearn.metrics
import torch

from clippy_jax.datasets import label_layouts as layouts
from clippy_jax.errors import InputError
from clippy_jax.evaluators.protocols import Protocol
from clippy_jax.evaluators.segmentation import Segmentation
from clippy_jax.mesh import batch_sharding
from tests.evaluators import label_trees
from tests.evaluators.fake_model import PATCH, FakeModel

SIZES = [(60, 45), (45, 60), (64, 64), (33, 71), (60, 45), (140, 150), (60, 41)]
SETTINGS = dict(batch_size=8, image_size=48, progress=False)


class OneByOne(FakeModel):
    """Embeds image after image, so that the embeddings are the same to the bit on any number of devices."""

    def encode_image(self, images):
        embedded = zip(*(FakeModel.encode_image(self, image[None]) for image in np.asarray(images)))
        return tuple(jax.device_put(np.concatenate(arrays), batch_sharding(self.mesh)) for arrays in embedded)


def similarity_maps(model, pixels, prompts, options) -> torch.Tensor:
    """Window by window in NumPy: the mean over all windows that hold a patch."""
    height, width, _ = pixels.shape
    window, stride = (options.window or None), options.window_stride
    sums, over = 0, np.zeros((height // PATCH, width // PATCH, 1))
    sums = np.zeros((*over.shape[:2], len(prompts)))
    tops = sorted({min(top, height - window) for top in range(0, height, stride)}) if window else [0]
    lefts = sorted({min(left, width - window) for left in range(0, width, stride)}) if window else [0]
    classes = model.encode_text(prompts).astype(np.float64)
    for top in tops:
        for left in lefts:
            part = pixels[top : top + (window or height), left : left + (window or width)]
            patches = np.asarray(model.encode_image(part[None])[0][0]).astype(np.float64)
            place = np.s_[top // PATCH :, left // PATCH :]
            sums[place][: patches.shape[0], : patches.shape[1]] += patches @ classes.T
            over[place][: patches.shape[0], : patches.shape[1]] += 1
    return torch.tensor(sums / over).permute(2, 0, 1)[None]


def reference(images, truths, layout, options, size=48):
    words, total = layout.vocabulary, 0
    by_threshold = options.background != "prompts"
    prompts = list(words.prompts[1 : len(words.classes)] if by_threshold else words.prompts)
    for path, truth in zip(images, truths):
        image = PIL.Image.open(path)
        short = min(image.size)
        fed = [PATCH * round(size * length / short / PATCH) for length in image.size]
        fed = (size, size) if options.resize == "square" else fed
        pixels = np.asarray(image.resize(fed, PIL.Image.BICUBIC).convert("RGB"))
        maps = similarity_maps(FakeModel(), pixels, prompts, options)
        maps = torch.nn.functional.interpolate(maps, truth.shape, mode="bilinear", align_corners=False)[0]
        predicted = maps.argmax(0).numpy()
        if by_threshold:
            shares = maps if options.background == "similarity" else torch.softmax(100 * maps, dim=0)
            predicted = np.where(shares.max(0).values.numpy() < options.threshold, 0, predicted + 1)
        predicted[predicted >= len(words.classes)] = 0
        kept = truth != 255
        total += sklearn.metrics.confusion_matrix(truth[kept], predicted[kept], labels=range(len(words.classes)))
    return total


@pytest.mark.parametrize(
    "layout, options",
    [
        (layouts.ADE20K, {}),
        (layouts.CITYSCAPES, dict(resize="square")),
        (layouts.COCO_STUFF, dict(window=32, stride=24)),
        (layouts.COCO_PANOPTIC, dict(window=48)),
        (layouts.COCO_OBJECT, dict(background="similarity", threshold=0.4)),
        (layouts.PASCAL_CONTEXT_60, dict(background="probability", threshold=0.55, window=24, stride=8)),
        (layouts.VOC, dict(background="similarity", threshold=0.3, resize="square")),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_equals_brute_force_on_one_device_and_on_eight(tmp_path, layout, options):
    images, truths = label_trees.tree(tmp_path, layout, SIZES)
    one, eight = (
        Segmentation(str(tmp_path), layout, **options).run(OneByOne(devices), **SETTINGS) for devices in (1, 8)
    )
    options = Protocol(**options)
    expected = reference(images, truths, layout, options)
    np.testing.assert_array_equal(one.confusion, expected)
    assert one.confusion == eight.confusion
    assert (one.data_set, one.split, one.images) == (layout.name, layout.split, len(SIZES))
    assert set(one.per_class_iou) == set(layout.vocabulary.classes)
    if options.background != "prompts":
        assert 0 < expected[:, 0].sum() < expected.sum()


def test_a_result_names_its_options():
    words = layouts.VOC.vocabulary
    options = Protocol(resize="square", window=224, stride=112, background="similarity", threshold=0.25)
    assert options.resolution(448) == "448x448, both sides, whole image, in windows of 224 at strides of 112; " + (
        "labels at full size"
    )
    assert options.prompt_set(words).endswith("not prompted: it is where the best similarity is below 0.25")
    assert Protocol().resolution(224) == "short side 224, whole image; labels at full size"
    assert Protocol().prompt_set(words) == words.prompt_set


@pytest.mark.parametrize(
    "layout, protocol, options, message",
    [
        (layouts.VOC, "public", dict(resize="square"), "protocol public fixes how images are fed"),
        (layouts.VOC, "standard", dict(stride=8), "stride=8 needs a window"),
        (layouts.VOC, "standard", dict(window=60), "window=60 must be a multiple of the patch size 8 and at most"),
        (layouts.VOC, "standard", dict(window=56), "at most image_size=48"),
        (layouts.VOC, "standard", dict(window=32, stride=40), "stride=40 must be .* at most window=32"),
        (layouts.VOC, "standard", dict(threshold=0.5), "needs background=similarity or background=probability"),
        (layouts.VOC, "standard", dict(background="probability", threshold=2), "lies between 0 and 1"),
        (layouts.ADE20K, "standard", dict(background="similarity"), "ADE20K, 150 classes has no background to find"),
    ],
)
def test_options_that_do_not_fit_are_one_line(tmp_path, layout, protocol, options, message):
    label_trees.tree(tmp_path, layout, [(40, 40)])
    with pytest.raises(InputError, match=message) as error:
        Segmentation(str(tmp_path), layout, protocol, **options).run(FakeModel(), **SETTINGS)
    assert "\n" not in str(error.value)
