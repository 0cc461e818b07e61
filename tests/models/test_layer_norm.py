"""The norm of the image tower beside Flax's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from clippy_jax.models.layer_norm import LayerNorm
from clippy_jax.models.layers import Dense
from tests.models.torch_twin import relative_error

KEY = jax.random.key(0)


class Pair(nn.Module):
    norm: nn.Module
    dense: nn.Module

    def __call__(self, x):
        return self.dense(self.norm(x))


def value_and_gradients(layer, params, x):
    value, pull = jax.vjp(lambda params, x: layer.apply(params, x).astype(jnp.float32), params, x)
    return value, pull(jax.random.normal(jax.random.key(3), value.shape))


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("bfloat16", 1e-2)])
@pytest.mark.parametrize("before", ["nothing", "a linear map", "a linear map without bias"])
def test_layer_norm_and_its_gradients_are_those_of_flax(dtype, tolerance, before):
    """A linear map behind it takes over its scale and its bias."""
    x = (3 + 2 * jax.random.normal(KEY, (4, 5, 96))).astype(dtype)
    kind, use_bias = jnp.dtype(dtype), before == "a linear map"
    ours, reference = LayerNorm(1e-6, kind), nn.LayerNorm(epsilon=1e-6, use_fast_variance=False)
    if before != "nothing":
        ours = Pair(LayerNorm(1e-6, kind, pending=True), Dense(64, use_bias=use_bias, dtype=kind))
        reference = Pair(reference, nn.Dense(64, use_bias=use_bias, precision=jax.lax.Precision.HIGHEST))
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(KEY, p.shape), reference.init(KEY, x))
    assert jax.tree.map(jnp.shape, ours.init(KEY, x)) == jax.tree.map(jnp.shape, params)
    found = value_and_gradients(ours, params, x)
    expected = value_and_gradients(reference, params, x.astype(jnp.float32))
    assert max(jax.tree.leaves(jax.tree.map(relative_error, found, expected))) <= tolerance
    assert found[1][1].dtype == dtype
