"""The norm of the image tower beside Flax's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from clippy_jax.models.layer_norm import LayerNorm
from tests.models.torch_twin import relative_error

KEY = jax.random.key(0)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("bfloat16", 1e-2)])
def test_layer_norm_and_its_gradients_are_those_of_flax(dtype, tolerance):
    x = (3 + 2 * jax.random.normal(KEY, (4, 5, 96))).astype(dtype)
    reference = nn.LayerNorm(epsilon=1e-6, use_fast_variance=False)
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(KEY, p.shape), reference.init(KEY, x))
    direction = jax.random.normal(jax.random.key(3), x.shape)

    def value_and_gradients(layer, x):
        value, pull = jax.vjp(lambda params, x: layer.apply(params, x).astype(jnp.float32), params, x)
        return value, pull(direction)

    ours = value_and_gradients(LayerNorm(epsilon=1e-6, dtype=jnp.dtype(dtype)), x)
    theirs = value_and_gradients(reference, x.astype(jnp.float32))
    assert max(jax.tree.leaves(jax.tree.map(relative_error, ours, theirs))) <= tolerance
    assert ours[1][1].dtype == dtype
