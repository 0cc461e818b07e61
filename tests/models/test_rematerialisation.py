"""What the backward pass finds and what it computes once more, counted in the program of a gradient."""

import collections

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from clippy_jax.models.dropout import Dropout
from clippy_jax.models.rematerialisation import keep, rematerialised
from tests.models.operations import operations


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        hidden = keep(nn.Dense(8, use_bias=False)(x))
        return Dropout(0.5, deterministic=False)(jnp.tanh(hidden))


@pytest.mark.parametrize("everything, products, masks", [(False, 3, 1), (True, 4, 2)])
def test_dense_outputs_and_masks_are_found_and_the_rest_is_computed_twice(everything, products, masks):
    block, x = rematerialised(Block, everything)(), jnp.ones((4, 8))
    rngs = {"dropout": jax.random.key(1)}
    params = block.init({"params": jax.random.key(0), **rngs}, x)

    def loss(params, x):
        return block.apply(params, x, rngs=rngs).sum()

    program = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(params, x)
    counted = collections.Counter(equation.primitive.name for equation, _ in operations(program.jaxpr))
    assert counted["dot_general"] == products  # the product, perhaps once more, and its two gradients
    assert counted["random_bits"] == masks
    assert counted["tanh"] == 2
