import numpy as np
import PIL.Image
import pytest

from clippy_jax.analysis.embedder import MOST_PATCHES, EmbeddedImage
from tests.analysis.colour_model import IMAGE_SIZE, LOGIT_SCALE, PATCH


@pytest.mark.parametrize(
    "size, resolution, fed",
    [
        ((64, 64), 1, (IMAGE_SIZE, IMAGE_SIZE)),
        ((64, 128), 1, (2 * IMAGE_SIZE, IMAGE_SIZE)),
        ((640, 480), 1.5, (48, 64)),
        ((64, 64), 0.01, (PATCH, PATCH)),
        ((1, 1), 2, (64, 64)),
    ],
)
def test_images_are_fed_whole_in_multiples_of_the_training_size(embedder, size, resolution, fed):
    embedded = embedder.image(PIL.Image.new("RGB", size), resolution)
    assert embedded.fed == fed
    assert embedded.patches.shape[:2] == (fed[0] // PATCH, fed[1] // PATCH)


@pytest.mark.parametrize("size", [(64, 64), (100, 400), (7, 1000)])
def test_patches_are_bounded(embedder, size):
    rows, columns, _ = embedder.image(PIL.Image.new("RGB", size), 1000).patches.shape
    assert MOST_PATCHES / 2 < rows * columns <= MOST_PATCHES


def test_nothing_is_embedded_twice(embedder, model):
    images = [PIL.Image.new("RGB", (64, 64), colour) for colour in ("red", "lime", "red")]
    for image in images:
        embedder.image(image, 1)
    assert model.images_encoded == 2
    embedder.words(["zebra", "grass"])
    assert (embedder.words(["grass", "apple"])[0] == embedder.words(["zebra", "grass"])[1]).all()
    assert model.texts_encoded == ["a photo of a zebra", "a photo of a grass", "a photo of an apple"]


def test_logit_scale_is_the_checkpoints_own(embedder):
    assert embedder.logit_scale == pytest.approx(LOGIT_SCALE)


@pytest.mark.parametrize(
    "point, patch",
    [((0, 0), (0, 0)), ((0.99, 0.01), (0, 4)), ((0.5, 0.5), (2, 2)), ((1, 1), (3, 4)), ((-0.1, 1.1), (3, 0))],
)
def test_the_patch_under_a_point(point, patch):
    assert EmbeddedImage(np.zeros((4, 5, 2)), np.zeros(2), (64, 80)).patch_at(point) == patch


def test_similarity_is_the_cosine_with_the_patch(embedder, red_and_lime):
    embedded = embedder.image(red_and_lime, 1)
    similar = embedded.similarity_to_patch((1, 0))
    assert similar.shape == embedded.patches.shape[:2]
    np.testing.assert_allclose(similar[:, 0], 1, rtol=1e-5)
    assert (similar[:, -1] < 0.5).all()


def test_windows_are_averaged_patch_by_patch(embedder, model):
    """Each patch of the model is its own colour, so whatever window it is seen in, it stays what it is."""
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 101, 3), dtype=np.uint8))
    whole = embedder.image(image, 2.0)
    encoded = model.images_encoded
    windows = embedder.windows(image, 2.0)
    assert windows.fed == whole.fed == (64, 96)
    assert model.images_encoded - encoded == 16  # 3 x 5 windows, in two calls of 8
    np.testing.assert_allclose(windows.patches, whole.patches, atol=1e-6)
    assert np.linalg.norm(windows.pooled) == pytest.approx(1)
    assert not embedder.needs_windows(image, 2.0) and embedder.needs_windows(image, 100.0)
