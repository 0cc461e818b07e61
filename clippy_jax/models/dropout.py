"""Dropout (Srivastava et al., 2014) whose numbers are the same however a batch is grouped or split over devices."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from clippy_jax.models import threefry
from clippy_jax.models.layers import keep


class Dropout(nn.Module):
    """Dropout that `jax.vmap` does not repeat; draws from the stream "dropout"."""

    rate: float
    deterministic: bool

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"], rate: float | None = None) -> Float[Array, "*shape"]:
        """Drops at the rate of the module, or at another, to the nearest 1 / 65,536."""
        rate = self.rate if rate is None else rate
        if self.deterministic or rate == 0:
            return x
        kept = max(1, round(2**16 * (1 - rate)))
        draw = _of_all_groups(lambda key, like: threefry.below(kept, key, like.shape))
        answers = draw(self.make_rng("dropout"), jax.lax.stop_gradient(x))
        if jax.default_backend() != "cpu":  # which draws them again in less time than it writes and reads them
            answers = keep(answers)
        return jnp.where(threefry.unpacked(answers, x.shape[-1]), x / (kept / 2**16), 0)


def uniform(key: Key[Array, ""], like: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Random numbers in [0, 1) in the shape of an array.

    Under `jax.vmap` over `like` alone, these are the numbers of all groups joined along their first dimension, where
    `jax.random.uniform` would give every group the same ones.
    """
    return _of_all_groups(lambda key, like: jax.random.uniform(key, like.shape))(key, jax.lax.stop_gradient(like))


def _of_all_groups(draw: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """`draw` from a key in the shape of an array, and for groups of them, under `jax.vmap`, in that of all together."""
    draw = jax.custom_batching.custom_vmap(draw)

    @draw.def_vmap
    def draw_for_groups(groups, in_batched, key, like):
        # A number of JAX's depends on its index in the flattened array alone.
        return draw(key, like), True

    return draw
