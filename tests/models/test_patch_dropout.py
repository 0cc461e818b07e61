"""Patch dropout: with blocks that add nothing, a kept token comes out as without dropout, so it is recognised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clippy_jax.models.precision import precision_of
from clippy_jax.models.vit import VisionTransformer
from tests.models import configurations
from tests.models.test_vit import random_images, tower
from tests.models.torch_twin import params_of, random_twin

CONFIG = configurations.image_tower(patch_dropout=0.75)
KEPT = 9  # of the 6 x 6 patches of IMAGES
IMAGES = random_images(3, 96, 96)


@pytest.fixture(scope="module")
def params():
    params = params_of(random_twin(configurations.model()))["image"]
    for layer in ("projection", "mlp_out"):
        params["blocks"][layer] = jax.tree.map(np.zeros_like, params["blocks"][layer])
    return params


@pytest.fixture(scope="module")
def all_tokens(params):
    return tower(CONFIG)(params, IMAGES)


@pytest.fixture(scope="module")
def train_tower(params):
    """Dropout key → tokens."""
    apply = tower(CONFIG, train=True)
    return lambda number: apply(params, IMAGES, jax.random.key(number))


def kept(tokens, all_tokens):
    """For each image, the indices of the patches that `tokens` holds."""
    everything = np.asarray(all_tokens.patches).reshape(3, 36, 48)
    distance = np.abs(np.asarray(tokens.patches).reshape(3, -1, 1, 48) - everything[:, None]).max(axis=-1)
    assert distance.min(axis=-1).max() < 1e-5  # each token is one of the image's own
    return distance.argmin(axis=-1)


def test_keeps_all_outside_training(all_tokens):
    assert all_tokens.patches.shape == (3, 6, 6, 48)


def test_keeps_the_cls_token_and_an_ordered_share_of_each_images_patches(train_tower, all_tokens):
    tokens = train_tower(0)
    assert tokens.patches.shape == (3, 1, KEPT, 48)
    np.testing.assert_allclose(tokens.cls, all_tokens.cls, atol=1e-5)
    assert (np.diff(kept(tokens, all_tokens), axis=1) > 0).all()


def test_choice_depends_on_the_image_and_the_key(train_tower, all_tokens):
    one, same, other = (kept(train_tower(number), all_tokens) for number in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])


def test_every_patch_has_the_same_chance(train_tower, all_tokens):
    chosen = np.concatenate([kept(train_tower(number), all_tokens) for number in range(100)])
    share = np.bincount(chosen.ravel(), minlength=36) / len(chosen)
    assert np.abs(share - 0.25).max() < 5 * (0.25 * 0.75 / 300) ** 0.5


@pytest.mark.parametrize("side, rate, count", [(14, 0.5, 98), (28, 0.8, 156), (1, 0.9, 1), (2, 0.9, 1)])
def test_count_is_the_public_codes(side, rate, count):
    module = VisionTransformer(configurations.image_tower(patch_dropout=rate), precision_of("float32"))
    tokens, _ = jax.eval_shape(
        lambda key, images: module.init_with_output({"params": key, "dropout": key}, images, train=True),
        jax.random.key(0),
        jnp.zeros((2, 16 * side, 16 * side, 3)),
    )
    assert tokens.patches.shape == (2, 1, count, 48)
