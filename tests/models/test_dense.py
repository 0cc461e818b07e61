"""The towers' linear map beside Flax's own."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from clippy_jax.models.dense import Dense


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
