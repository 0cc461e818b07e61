"""B/16 and T5-base, each parameter random: beside PyTorch at three image sizes, and in bfloat16 beside float32."""

import dataclasses

import jax
import numpy as np
import pytest
import torch

from clippy_jax.models.clippy import CLIPpy
from tests.models import configurations
from tests.models.test_clippy import features
from tests.models.test_t5 import random_tokens
from tests.models.test_vit import random_images
from tests.models.torch_twin import params_of, random_twin, relative_error


@pytest.fixture(scope="module")
def twin():
    image, text = configurations.image_tower("B/16"), configurations.text_tower("base", vocabulary_size=2000)
    return random_twin(configurations.model(image, text), attention="sdpa")


@pytest.fixture(scope="module")
def variables(twin):
    return {"params": params_of(twin)}


@pytest.mark.parametrize("size", [(224, 224), (336, 448), (96, 96)])
def test_image_features_equal_torch(size, twin, variables):
    images = random_images(1, *size)
    module = CLIPpy(twin.config)
    ours = jax.jit(lambda variables: module.apply(variables, images, method="encode_image"))(variables)
    with torch.no_grad():
        theirs = twin.encode_image(torch.tensor(images))
    assert relative_error(ours[0], theirs[0]) <= 5e-5
    assert relative_error(ours[1], theirs[1]) <= 5e-5


def test_text_features_equal_torch(twin, variables):
    tokens = random_tokens((77, 20), 77, vocabulary=2000)
    module = CLIPpy(twin.config)
    ours = jax.jit(lambda variables: module.apply(variables, tokens, method="encode_text"))(variables)
    with torch.no_grad():
        theirs = twin.encode_text(torch.tensor(tokens))
    assert ours.shape == (2, 768)
    assert relative_error(np.asarray(ours), theirs) <= 5e-5


def test_bfloat16_moves_no_embedding_far(twin, variables):
    """Embeddings have length 1, so this is the distance as a share of it; single entries move by less than 0.004."""
    images, tokens = random_images(1, 224, 224), random_tokens((77, 20, 5), 77, vocabulary=2000)
    exact = features(twin.config, variables["params"], images, tokens)
    rough = features(dataclasses.replace(twin.config, precision="bfloat16"), variables["params"], images, tokens)
    for ours, theirs in zip(rough, exact):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.dtype == np.float32
        assert 1e-3 < np.linalg.norm(ours - theirs, axis=-1).mean() <= 1e-2
        assert np.abs(ours - theirs).max() <= 4e-3
