import PIL.Image
import pytest

from clippy_jax.analysis.embedder import MOST_PATCHES
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
