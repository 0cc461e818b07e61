import numpy as np
import pytest
import torch

from clippy_jax.inference import label_maps
from clippy_jax.inference.background import Decision

GRIDS = [((4, 4), (64, 64)), ((3, 5), (47, 81)), ((14, 19), (333, 500)), ((6, 2), (5, 1)), ((1, 1), (9, 7))]


def interpolate(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    channels_first = torch.tensor(maps).permute(2, 0, 1)[None]
    stretched = torch.nn.functional.interpolate(channels_first, size, mode="bilinear", align_corners=False)
    return stretched[0].permute(1, 2, 0).numpy()


def stretch(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (
        label_maps.interpolation_weights(length, label_maps.padded_length(length), patches)[:length]
        for length, patches in zip(size, maps.shape)
    )
    return np.einsum("Hh,Ww,hwc->HWc", rows, columns, maps, optimize=True)


@pytest.mark.parametrize("grid, size", GRIDS)
def test_stretched_similarities_equal_stretched_features_and_torch(grid, size):
    random = np.random.default_rng(0)
    patches = random.normal(size=(*grid, 12)).astype(np.float32)
    classes = random.normal(size=(5, 12)).astype(np.float32)
    patches /= np.linalg.norm(patches, axis=-1, keepdims=True)
    classes /= np.linalg.norm(classes, axis=-1, keepdims=True)
    similarities = np.asarray(label_maps.similarities(patches, classes))
    ours = stretch(similarities, size)
    np.testing.assert_allclose(ours, interpolate(patches, size) @ classes.T, atol=1e-5)
    np.testing.assert_allclose(ours, interpolate(similarities, size), atol=1e-5)


@pytest.mark.parametrize("grid, size", GRIDS)
def test_name_pixels_takes_the_most_similar_class(grid, size):
    random = np.random.default_rng(1)
    patches = random.normal(size=(*grid, 8)).astype(np.float32)
    classes = random.normal(size=(6, 8)).astype(np.float32)
    expected = interpolate(patches @ classes.T, size).argmax(-1)
    np.testing.assert_array_equal(label_maps.name_pixels(patches, classes, *size), expected)


def test_padding_does_not_change_the_labels():
    similarities = np.random.default_rng(2).normal(size=(5, 7, 4)).astype(np.float32)
    size = np.array([50, 70], np.int32)
    tight, roomy = (
        np.asarray(
            label_maps.label_map(
                label_maps.stretched(similarities, *label_maps.stretched_weights(size, padded, (5, 7))),
                padded,
                size,
                Decision.folding(4, 4),
            )
        )
        for padded in ((64, 128), (192, 256))
    )
    np.testing.assert_array_equal(tight[:50, :70], roomy[:50, :70])
