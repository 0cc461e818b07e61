"""Random numbers for a batch, the same ones when groups of it are computed side by side."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from clippy_jax.models.rematerialisation import keep


class Dropout(nn.Module):
    """`flax.linen.Dropout`, number for number, that `jax.vmap` does not repeat; draws from the stream "dropout"."""

    rate: float
    deterministic: bool

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        if self.deterministic or self.rate == 0:
            return x
        mask = keep(uniform(self.make_rng("dropout"), x) < 1 - self.rate)
        return jnp.where(mask, x / (1 - self.rate), 0)


def uniform(key: Key[Array, ""], like: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Numbers in [0, 1) in the shape of an array.

    Under `jax.vmap` over `like` alone, these are the numbers of all groups joined along their first dimension, where
    `jax.random.uniform` would give every group the same ones.
    """
    return _uniform(key, jax.lax.stop_gradient(like))


@jax.custom_batching.custom_vmap
def _uniform(key, like):
    return jax.random.uniform(key, like.shape)


@_uniform.def_vmap
def _uniform_of_groups(groups, in_batched, key, like):
    # JAX's random numbers depend on their place in the flattened array alone.
    return _uniform(key, like), True
