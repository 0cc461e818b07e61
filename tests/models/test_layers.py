"""The blocks' parts: the linear map and dropout beside Flax's own, and what the backward pass finds."""

import collections

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clippy_jax.models.layers import Dense, Dropout, keep, rematerialised, uniform
from tests.models.operations import operations

X = jax.random.normal(jax.random.key(1), (8, 5, 3))
KEY = jax.random.key(0)


@pytest.mark.parametrize("shape", [(5, 8), (2, 3, 8), (2, 3, 4, 8)])
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


class Twice(nn.Module):
    """Two layers in a row: each draws numbers of its own."""

    dropout: type[nn.Module]
    rate: float = 0.3

    @nn.compact
    def __call__(self, x, deterministic=False):
        return self.dropout(0.1, deterministic=deterministic)(self.dropout(self.rate, deterministic=deterministic)(x))


def apply(model, x, **options):
    return model.apply({}, x, rngs={"dropout": KEY}, **options)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_dropout_is_flaxs_number_for_number(rate):
    np.testing.assert_array_equal(apply(Twice(Dropout, rate), X), apply(Twice(nn.Dropout, rate), X))
    np.testing.assert_array_equal(apply(Twice(Dropout, rate), X, deterministic=True), X)


def test_groups_side_by_side_draw_what_the_whole_draws():
    def by_group(x):
        groups = jax.vmap(jax.checkpoint(lambda group: apply(Twice(Dropout), group)))(x.reshape(4, 2, 5, 3))
        return groups.reshape(x.shape)

    def gradient(function):
        return jax.grad(lambda x: (function(x) ** 3).sum())(X)

    np.testing.assert_array_equal(by_group(X), apply(Twice(Dropout), X))
    whole = gradient(lambda x: apply(Twice(nn.Dropout), x))
    np.testing.assert_allclose(gradient(by_group), whole, rtol=1e-5)


def test_groups_of_groups_too():
    nested = jax.vmap(jax.vmap(lambda x: uniform(KEY, x)))(X.reshape(2, 4, 5, 3))
    np.testing.assert_array_equal(nested.reshape(8, 5, 3), jax.random.uniform(KEY, (8, 5, 3)))


def test_numbers_are_float32_whatever_the_array_is():
    assert uniform(KEY, jnp.ones(3, jnp.bfloat16)).dtype == jnp.float32


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
    assert counted["lt"] == masks
    assert counted["tanh"] == 2
