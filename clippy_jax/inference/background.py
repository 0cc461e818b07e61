"""The class of a pixel by its similarities; background is asked for by name, or is where no class is certain."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

# `prompts`: background and what is folded into it are prompted by name. `similarity` and `probability`: only the other
# classes are, and background is where the best of them is not certain enough. A similarity is the cosine with that
# class, from -1 to 1; a probability is its softmax over the classes at CLIP's temperature, from 0 to 1, which depends
# on which classes there are.
Background = Literal["prompts", "similarity", "probability"]
RANGES = {"similarity": (-1.0, 1.0), "probability": (0.0, 1.0)}
LOGIT_SCALE = 100.0


def class_of(
    similarities: Float[Array, "... P"], classes: int, background: Background = "prompts", threshold: float = 0.0
) -> Int32[Array, "..."]:
    """The most similar class, the first among equals, or background, which is class 0.

    Args:
      similarities: with each prompted name.
      classes: how many there are. With `prompts` the names past them are folded into class 0; else the names are those
        of the classes from 1 on.
      background: how background is found.
      threshold: below it a pixel is background; of no meaning with `prompts`.
    """
    named = similarities.argmax(axis=-1).astype(jnp.int32)
    if background == "prompts":
        return jnp.where(named < classes, named, 0)
    best = similarities.max(axis=-1)
    if background == "probability":
        certainty = 1 / jnp.exp(LOGIT_SCALE * (similarities - best[..., None])).sum(axis=-1)
    else:
        certainty = best
    return jnp.where(certainty >= threshold, named + 1, 0)
