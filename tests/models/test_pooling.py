"""The four poolings and the gradient of the maximum; `test_clippy.py` has them beside PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clippy_jax.models.pooling import as_tokens, pool, still_needed
from clippy_jax.models.vit import ImageTokens


@pytest.mark.parametrize("pooling", ["max", "max_with_cls"])
def test_gradient_of_the_maximum_goes_to_one_token_of_those_that_tie(pooling):
    patches = np.random.default_rng(0).integers(0, 3, (2, 3, 4, 16)).astype(np.float32)
    tokens = ImageTokens(patches=jnp.asarray(patches), cls=jnp.full((2, 16), 2.0), attention=None)
    gradient = jax.grad(lambda tokens: pool(tokens, pooling).sum())(tokens)
    everything = jnp.concatenate([gradient.cls[:, None], gradient.patches.reshape(2, 12, 16)], axis=1)
    np.testing.assert_array_equal(everything.sum(axis=1), 1)
    np.testing.assert_array_equal(everything.max(axis=1), 1)
    assert bool((gradient.cls == (1 if pooling == "max_with_cls" else 0)).all())  # the first of equals


@pytest.mark.parametrize(
    "kept, pooling, projected",
    [
        (1, "max", False),
        (1, "max_with_cls", False),
        (1, "avg", False),
        (1, "cls", False),
        (2, "cls_and_avg", False),
        (13, "max", True),
        (13, "max_with_cls", True),
        (1, "avg", True),
        (1, "cls", True),
        (2, "cls_and_avg", True),
    ],
)
def test_what_is_kept_of_the_tokens_pools_to_the_same(kept, pooling, projected):
    random = np.random.default_rng(0)
    tokens = ImageTokens(jnp.asarray(random.normal(size=(2, 3, 4, 16))), jnp.asarray(random.normal(size=(2, 16))), None)
    matrix = jnp.asarray(random.normal(size=(16, 8))) if projected else jnp.eye(16)

    def embedding(tokens):
        return pool(tokens.replace(patches=tokens.patches @ matrix, cls=tokens.cls @ matrix), pooling)

    features = still_needed(tokens, pooling, projected)
    assert features.shape == (2, kept, 16)
    np.testing.assert_allclose(embedding(as_tokens(features)), embedding(tokens), rtol=0, atol=1e-5)
