"""The linear map beside Flax's own, and what the backward pass finds."""

import collections

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clippy_jax.models.dropout import Dropout
from clippy_jax.models.layers import Dense, keep, rematerialised
from tests.models.operations import operations

KEY = jax.random.key(0)


@pytest.mark.parametrize("shape", [(5, 8), (2, 3, 8), (2, 3, 4, 8), (0, 3, 8)])
@pytest.mark.parametrize("use_bias", [False, True])
def test_values_parameters_and_gradients_are_those_of_flax(shape, use_bias):
    inputs = jax.random.normal(jax.random.key(0), shape)
    ours, reference = Dense(6, use_bias=use_bias), nn.Dense(6, use_bias=use_bias)
    params = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(jax.random.key(2), x.shape), reference.init(jax.random.key(1), inputs)
    )
    assert jax.tree.map(np.shape, ours.init(jax.random.key(1), inputs)) == jax.tree.map(np.shape, params)

    def loss(params, inputs, dense):
        return (dense.apply(params, inputs) ** 2).sum()

    np.testing.assert_allclose(ours.apply(params, inputs), reference.apply(params, inputs), atol=1e-6)
    gradients = (jax.grad(loss, argnums=(0, 1))(params, inputs, dense) for dense in (ours, reference))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *gradients)


def test_a_bias_collects_its_gradient_in_float32():
    """Each bfloat16 number is one more of 1,000; from 256 on, a sum in bfloat16 would stay where it is."""
    layer, inputs = Dense(4, dtype=jnp.dtype("bfloat16")), jnp.zeros((1000, 8))
    params = layer.init(KEY, inputs)
    gradient = jax.grad(lambda params: layer.apply(params, inputs).astype(jnp.float32).sum())(params)
    np.testing.assert_array_equal(gradient["params"]["bias"], 1000)
    program = jax.make_jaxpr(jax.grad(lambda params: layer.apply(params, inputs).astype(jnp.float32).sum()))(params)
    sums = [equation for equation, _ in operations(program.jaxpr) if equation.primitive.name == "reduce_sum"]
    assert sums and all(equation.outvars[0].aval.dtype == jnp.float32 for equation in sums)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        hidden = keep(nn.Dense(8, use_bias=False)(x))
        return Dropout(0.5, deterministic=False)(jnp.tanh(hidden))


@pytest.mark.parametrize(
    "everything, backend, products, masks", [(False, "gpu", 3, 1), (False, "cpu", 3, 2), (True, "gpu", 4, 2)]
)
def test_dense_outputs_and_masks_are_found_and_the_rest_is_computed_twice(
    everything, backend, products, masks, monkeypatch
):
    """A CPU finds no masks, either."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    block, x = rematerialised(Block, everything)(), jnp.ones((4, 8))
    rngs = {"dropout": jax.random.key(1)}
    params = block.init({"params": jax.random.key(0), **rngs}, x)

    def loss(params, x):
        return block.apply(params, x, rngs=rngs).sum()

    program = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(params, x)
    counted = collections.Counter(equation.primitive.name for equation, _ in operations(program.jaxpr))
    assert counted["dot_general"] == products  # the product, perhaps once more, and its two gradients
    assert counted["lt"] == 4 * masks
    assert counted["tanh"] == 2
