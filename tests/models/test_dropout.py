"""Dropout: its rate, and that its numbers do not depend on how a batch is grouped."""

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
