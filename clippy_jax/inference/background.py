"""Background where no class is certain enough, for data sets whose background has no name of its own."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

# `similarity`: the cosine of the most similar class, from -1 to 1. `probability`: its share in a softmax over the
# classes at CLIP's temperature, from 0 to 1; it depends on which classes there are.
Scale = Literal["similarity", "probability"]
RANGES = {"similarity": (-1.0, 1.0), "probability": (0.0, 1.0)}
LOGIT_SCALE = 100.0


def name_or_background(similarities: Float[Array, "... C"], threshold: float, scale: Scale) -> Int32[Array, "..."]:
    """One more than the index of the most similar class; 0 where its certainty is below the threshold."""
    best = similarities.max(axis=-1)
    if scale == "probability":
        certainty = 1 / jnp.exp(LOGIT_SCALE * (similarities - best[..., None])).sum(axis=-1)
    else:
        certainty = best
    return jnp.where(certainty >= threshold, similarities.argmax(axis=-1) + 1, 0).astype(jnp.int32)
