"""DINO's masks: where each head of the last block looks (Caron et al., 2021, figure 4)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

MASS = 0.6


def attention_masks(attention: Float[Array, "heads h w"], mass: float = MASS) -> Bool[Array, "heads h w"]:
    """The patches that together hold a share of the CLS token's attention, the most attended first.

    A patch is kept while those before it hold less than `mass` of what the head pays to all patches, so the mask holds
    at least `mass`, and no patch can be spared.
    """
    flat = attention.reshape(attention.shape[0], -1)
    order = jnp.argsort(-flat, axis=1)
    descending = jnp.take_along_axis(flat, order, axis=1)
    held = jnp.cumsum(descending, axis=1)
    kept = held - descending < mass * held[:, -1:]
    return jnp.take_along_axis(kept, jnp.argsort(order, axis=1), axis=1).reshape(attention.shape)
