import numpy as np
import PIL.Image
import pytest
import scipy.special
import torch

from clippy_jax.analysis.embedder import Embedder
from clippy_jax.analysis.segments import name_pixels, probabilities
from clippy_jax.inference import Model
from tests.analysis.colour_model import ColourModel


@pytest.mark.parametrize("size", [(64, 64), (130, 200), (5, 3), (1, 1)])
def test_labels_shares_and_confidences_are_those_of_stretched_similarities(size):
    similarities = np.random.default_rng(0).uniform(-1, 1, (4, 6, 5)).astype(np.float32)
    segments = name_pixels(similarities, 7.0, *size)
    stretched = torch.nn.functional.interpolate(
        torch.from_numpy(similarities).permute(2, 0, 1)[None], size, mode="bilinear", align_corners=False
    )[0].numpy()
    labels, best = stretched.argmax(axis=0), scipy.special.softmax(7 * stretched, axis=0).max(axis=0)
    assert segments.labels.shape == size
    assert (segments.labels != labels).mean() < 1e-3  # a tie that rounding decides
    for index in range(5):
        pixels = labels == index
        assert segments.shares[index] == pytest.approx(pixels.mean(), abs=1e-3)
        expected = best[pixels].mean() if pixels.any() else 0
        assert segments.confidences[index] == pytest.approx(expected, rel=1e-3)
    assert segments.shares.sum() == pytest.approx(1)


def test_more_names_than_a_byte_holds_are_folded_into_their_words():
    similarities = np.zeros((1, 2, 300), np.float32)
    similarities[0, 0, 3] = similarities[0, 1, 280] = 1
    segments = name_pixels(similarities, 7.0, 4, 8)
    assert segments.labels[0].tolist() == 4 * [3] + 4 * [280]
    folded = segments.folded([*range(200), *[200] * 100])
    assert folded.labels[0].tolist() == 4 * [3] + 4 * [200] and folded.labels.dtype == np.uint8


def test_probabilities_are_a_softmax():
    similarities = np.random.default_rng(0).uniform(-1, 1, (3, 5)).astype(np.float32)
    expected = scipy.special.softmax(100 * similarities, axis=-1)
    np.testing.assert_allclose(probabilities(similarities, 100), expected, rtol=1e-4)


class WholeModel(ColourModel, Model):
    """Encodes by colour and segments as models do."""

    class_embedding_cache = None


def test_at_the_training_resolution_the_labels_are_those_of_the_model():
    model = WholeModel()
    colours = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(colours).resize((150, 90), PIL.Image.Resampling.NEAREST)
    words = ["red", "lime", "grey", "blue"]
    embedder = Embedder(model, "model")
    similarities = embedder.image(image, 1.0).patches @ embedder.words(words).T
    segments = name_pixels(similarities, embedder.logit_scale, image.height, image.width)
    assert (segments.shares > 0).sum() > 1
    assert (segments.labels != model.segment(image, words)).mean() < 1e-3
