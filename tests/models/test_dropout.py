"""Dropout beside flax's, and under `jax.vmap`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clippy_jax.models.dropout import Dropout, uniform

X = jax.random.normal(jax.random.key(1), (8, 5, 3))
KEY = jax.random.key(0)


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
def test_number_for_number_flaxs(rate):
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
