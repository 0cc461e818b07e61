"""Images with known colours, and the model that tells colours apart."""

import numpy as np
import PIL.Image
import pytest

from clippy_jax.analysis.embedder import Embedder
from tests.analysis.colour_model import ColourModel


@pytest.fixture
def model():
    return ColourModel()


@pytest.fixture
def embedder(model):
    return Embedder(model, "runs/colours")


@pytest.fixture(scope="session")
def red_and_lime():
    """A quarter red on the left, the rest lime, of the size in which it is fed: the edge lies between patches."""
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, :24, 0] = 255
    pixels[:, 24:, 1] = 255
    return PIL.Image.fromarray(pixels)
