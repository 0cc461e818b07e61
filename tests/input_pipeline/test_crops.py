import math

import numpy as np
import pytest

from clippy_jax.input_pipeline.crops import UNIFORMS, random_resized_crop


def torchvision_crop(height, width, scale, ratio, uniforms):
    """`RandomResizedCrop.get_params` as its documentation has it, all attempts at once, in numpy."""
    pairs = np.asarray(uniforms[:-2]).reshape(-1, 2)
    area = height * width * np.interp(pairs[:, 0], (0, 1), scale)
    aspect = np.exp(np.interp(pairs[:, 1], (0, 1), np.log(ratio)))
    w, h = np.rint(np.sqrt(area * aspect)).astype(int), np.rint(np.sqrt(area / aspect)).astype(int)
    fits = np.flatnonzero((w > 0) & (w <= width) & (h > 0) & (h <= height))
    if len(fits):
        w, h = w[fits[0]], h[fits[0]]
        return math.floor(uniforms[-2] * (height - h + 1)), math.floor(uniforms[-1] * (width - w + 1)), h, w
    if width / height < min(ratio):
        w, h = width, round(width / min(ratio))
    elif width / height > max(ratio):
        w, h = round(height * max(ratio)), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("scale", [(0.9, 1.0), (0.08, 1.0), (1.0, 1.0)])
def test_against_an_independent_reference(scale):
    random = np.random.default_rng(0)
    for height, width in [(300, 400), (256, 256), (100, 1000), (1000, 100), (1, 50), (50, 1), (1, 1), (375, 500)]:
        for _ in range(200):
            uniforms = random.random(UNIFORMS).tolist()
            box = random_resized_crop(height, width, scale, (3 / 4, 4 / 3), uniforms)
            assert box == torchvision_crop(height, width, scale, (3 / 4, 4 / 3), uniforms)
            assert box.top >= 0 and box.left >= 0 and box.height > 0 and box.width > 0
            assert box.top + box.height <= height and box.left + box.width <= width


def test_every_place_is_as_likely():
    random = np.random.default_rng(0)
    boxes = [random_resized_crop(20, 20, (0.25, 0.25), (1.0, 1.0), row.tolist()) for row in random.random((5000, 22))]
    for counts in (np.bincount([box.top for box in boxes]), np.bincount([box.left for box in boxes])):
        assert len(counts) == 11 and np.abs(counts - 5000 / 11).max() < 5 * np.sqrt(5000 / 11)
