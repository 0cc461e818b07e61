"""The four poolings and the gradient of the maximum; `test_clippy.py` has them beside PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clippy_jax.models.pooling import pool
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
