import numpy as np
import pytest
from PIL import Image

from clippy_jax.input_pipeline.crops import Box
from clippy_jax.input_pipeline.resize import crop_and_resize


@pytest.mark.parametrize(
    "width, height, box, size",
    [
        (330, 300, Box(5, 9, 280, 310), 224),
        (224, 224, Box(0, 0, 224, 224), 224),
        (1000, 700, Box(100, 50, 600, 900), 224),
        (120, 90, Box(3, 2, 80, 100), 224),
        (300, 200, Box(0, 0, 200, 300), 64),
        (300, 200, Box(10, 20, 150, 150), 100),  # not a multiple of the block
        (300, 200, Box(10, 20, 2, 150), 40),
        (90, 60, Box(0, 0, 60, 90), 7),
        (1, 1, Box(0, 0, 1, 1), 32),
    ],
)
def test_crop_and_resize_agrees_with_pillow(photo, width, height, box, size):
    image = photo(1, width, height)
    cropped = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    expected = np.asarray(cropped.resize((size, size), Image.BICUBIC)).astype(int)
    resized = crop_and_resize(np.asarray(image), box, size)
    difference = np.abs(resized - expected)
    assert difference.mean() <= 0.25 and difference.max() <= 2
    assert (crop_and_resize(np.asarray(image), box, size, mirror=True) == resized[:, ::-1]).all()


def resized_without_rounding(image, box, size):
    """By Pillow, which resizes float images without rounding. `box` is (left, top, right, bottom)."""
    resized = [channel.convert("F").resize((size, size), Image.BICUBIC, box) for channel in image.split()]
    return np.clip(np.rint(np.stack([np.asarray(channel) for channel in resized], -1)), 0, 255)


@pytest.mark.parametrize("size", [7, 96, 100, 224])
@pytest.mark.parametrize("width, height", [(257, 311), (1000, 17), (16, 700), (1, 5), (1600, 1200)])
def test_resize_is_exact_up_to_its_last_rounding(photo, width, height, size):
    image = photo(2, width, height)
    expected = resized_without_rounding(image, (0, 0, width, height), size)
    difference = np.abs(crop_and_resize(np.asarray(image), Box(0, 0, height, width), size) - expected)
    assert difference.mean() < 1e-3  # a value just at .5 may fall either way


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("offset", [0, 1, 3, 5])
def test_boxes_on_reduced_images_keep_their_fractions(photo, reduction, offset):
    """A box of the photo is a fractional box of the reduced image; Pillow takes those too."""
    reduced = photo(3, 120, 90)
    top, left, height, width = reduction * 7 + offset, reduction * 5 + offset, reduction * 70 + 1, reduction * 101 + 3
    ours = crop_and_resize(np.asarray(reduced), Box(top, left, height, width), 48, reduction)

    # Pillow's filter reaches beyond the box, ours does not: it gets the pixels that the box touches and no more.
    touched = [left // reduction, top // reduction, -(-(left + width) // reduction), -(-(top + height) // reduction)]
    box = np.array([left, top, left + width, top + height]) / reduction - [*touched[:2], *touched[:2]]
    expected = resized_without_rounding(reduced.crop(touched), box, 48)
    assert np.abs(ours - expected).mean() < 1e-3
