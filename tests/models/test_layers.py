"""The blocks' parts: the linear map and dropout beside Flax's own, and what the backward pass finds."""

import collections
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clippy_jax.models.layers import Dense, Dropout, LayerNorm, gelu, keep, rematerialised, uniform
from tests.models.operations import operations
from tests.models.torch_twin import relative_error

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


def test_parts_are_those_of_the_whole():
    inputs, whole, parts = jax.random.normal(KEY, (2, 3, 8)), Dense(6), Dense(6, parts=3)
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(KEY, x.shape), whole.init(KEY, inputs))
    joined = functools.partial(jnp.concatenate, axis=-1)
    np.testing.assert_allclose(joined(parts.apply(params, inputs)), whole.apply(params, inputs), atol=1e-6)
    ours = jax.grad(lambda params: (joined(parts.apply(params, inputs)) ** 2).sum())(params)
    reference = jax.grad(lambda params: (whole.apply(params, inputs) ** 2).sum())(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, reference)


def test_a_bias_collects_its_gradient_in_float32():
    """Each bfloat16 number is one more of 1,000; from 256 on, a sum in bfloat16 would stay where it is."""
    layer, inputs = Dense(4, dtype=jnp.dtype("bfloat16")), jnp.zeros((1000, 8))
    params = layer.init(KEY, inputs)
    gradient = jax.grad(lambda params: layer.apply(params, inputs).astype(jnp.float32).sum())(params)
    np.testing.assert_array_equal(gradient["params"]["bias"], 1000)
    program = jax.make_jaxpr(jax.grad(lambda params: layer.apply(params, inputs).astype(jnp.float32).sum()))(params)
    sums = [equation for equation, _ in operations(program.jaxpr) if equation.primitive.name == "reduce_sum"]
    assert sums and all(equation.outvars[0].aval.dtype == jnp.float32 for equation in sums)


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


def test_gelu_in_bfloat16_is_the_exact_one_rounded():
    """All bfloat16 numbers in the range where it is not trivial, to one unit in the last place, and down to 1e-8."""
    x = jnp.arange(2**16, dtype=jnp.uint16).view(jnp.bfloat16)
    x = x[(jnp.abs(x) < 8) & jnp.isfinite(x)]
    wide = np.asarray(x, np.float64)
    below = np.array([math.erfc(-value / 2**0.5) / 2 for value in wide])
    density = np.exp(-(wide**2) / 2) / (2 * np.pi) ** 0.5
    result, pull = jax.vjp(gelu, x)
    np.testing.assert_allclose(np.asarray(result, np.float64), wide * below, rtol=2**-8, atol=1e-8)
    slope = np.asarray(pull(jnp.ones_like(x))[0], np.float64)
    np.testing.assert_allclose(slope, below + wide * density, rtol=2**-8, atol=1e-6)


class Twice(nn.Module):
    """Two layers in a row: each draws numbers of its own."""

    dropout: type[nn.Module]
    rate: float = 0.3

    @nn.compact
    def __call__(self, x, deterministic=False):
        return self.dropout(0.1, deterministic=deterministic)(self.dropout(self.rate, deterministic=deterministic)(x))


def apply(model, x, **options):
    return model.apply({}, x, rngs={"dropout": KEY}, **options)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.9])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate):
    x = 1 + jax.random.uniform(jax.random.key(2), (400, 3, 101))
    model = Dropout(rate, deterministic=False)
    dropped = np.asarray(apply(model, x))
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], (x / (1 - rate))[kept], rtol=1e-4)
    deviation = (rate * (1 - rate)) ** 0.5
    assert abs(kept.mean() - (1 - rate)) < 4 * deviation / kept.size**0.5
    # No neighbours, no quarters of a row and no rows go together.
    centred = (kept - kept.mean()) / deviation
    for axis, step in ((2, 1), (2, 26), (2, 52), (1, 1), (0, 1)):
        ahead = np.roll(centred, step, axis=axis)
        assert abs((centred * ahead).mean()) < 5 / kept.size**0.5
    np.testing.assert_array_equal(apply(model, x), dropped)
    assert (np.asarray(model.apply({}, x, rngs={"dropout": jax.random.key(5)})) != dropped).any()
    np.testing.assert_array_equal(apply(Twice(Dropout, rate), x, deterministic=True), x)
    np.testing.assert_array_equal(apply(Dropout(0.0, deterministic=False), x), x)


def test_groups_side_by_side_draw_what_the_whole_draws():
    def by_group(x):
        groups = jax.vmap(jax.checkpoint(lambda group: apply(Twice(Dropout), group)))(x.reshape(4, 2, 5, 3))
        return groups.reshape(x.shape)

    def gradient(function):
        return jax.grad(lambda x: (function(x) ** 3).sum())(X)

    np.testing.assert_array_equal(by_group(X), apply(Twice(Dropout), X))
    whole = gradient(lambda x: apply(Twice(Dropout), x))
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
    assert counted["lt"] == 4 * masks
    assert counted["tanh"] == 2
