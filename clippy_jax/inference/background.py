"""The class of a pixel by its scores; background is asked for by name, or is where no class is certain."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32

# A similarity is the cosine with the best name, from -1 to 1; a probability is its softmax over all names, from 0 to 1,
# which depends on which names there are.
Certainty = Literal["similarity", "probability"]
RANGES = {"similarity": (-1.0, 1.0), "probability": (0.0, 1.0)}
LOGIT_SCALE = 100.0  # CLIP's


@dataclasses.dataclass(frozen=True)
class Decision:
    """How a pixel gets its class; class 0 is background.

    Attributes:
      class_of_name: the class of each prompted name. The best name decides, so a class is as good as its best name.
      threshold: a pixel whose best name is less certain is background; None for no such rule.
      certainty: what the threshold is on.
      scale: what similarities are multiplied with before the softmax of a probability.
      at_most_best: whether the threshold is never above the most certain pixel of the image (GroupViT).
      smallest_share: a class other than background with at most this share of the image's pixels that are not
        background is left out, and its pixels get the next best (SCLIP).
    """

    class_of_name: tuple[int, ...]
    threshold: float | None = None
    certainty: Certainty = "similarity"
    scale: float = LOGIT_SCALE
    at_most_best: bool = False
    smallest_share: float = 0.0

    @staticmethod
    def folding(names: int, classes: int) -> "Decision":
        """Each name is a class of its own; those past `classes` are folded into class 0."""
        return Decision(tuple(name if name < classes else 0 for name in range(names)))

    @property
    def classes(self) -> int:
        """How many classes names stand for, background included."""
        return max(self.class_of_name) + 1


def class_of(
    scores: Float[Array, "... P"], decision: Decision, kept: Bool[Array, "C"] | None = None
) -> tuple[Int32[Array, "..."], Float[Array, "..."]]:
    """The class of the best name, the first among equals, and how certain it is; the threshold is not yet applied.

    Args:
      scores: of each name.
      decision: what the names stand for.
      kept: classes that may be chosen; by default all.
    """
    class_of_name = np.array(decision.class_of_name, np.int32)
    allowed = scores if kept is None else jnp.where(kept[class_of_name], scores, -jnp.inf)
    best = allowed.max(axis=-1)
    if decision.certainty == "probability":
        certainty = 1 / jnp.exp(decision.scale * (scores - best[..., None])).sum(axis=-1)
    else:
        certainty = best
    return jnp.asarray(class_of_name)[allowed.argmax(axis=-1)], certainty


def decide(
    strips: Callable[[Callable], tuple[Int32[Array, "H W"], Float[Array, "H W"]]],
    inside: Bool[Array, "H W"],
    decision: Decision,
) -> Int32[Array, "H W"]:
    """The class of every pixel of an image.

    Args:
      strips: called with a function of scores, gives what it makes of every pixel of the image.
      inside: which pixels belong to the image.
      decision: how they get their classes.
    """
    labels, certainty = strips(functools.partial(class_of, decision=decision))
    if decision.smallest_share:
        pixels = jnp.bincount(jnp.where(inside, labels, decision.classes).ravel(), length=decision.classes + 1)
        foreground = pixels[1 : decision.classes]
        kept = jnp.concatenate([jnp.ones(1, bool), foreground > decision.smallest_share * foreground.sum()])
        labels, certainty = strips(functools.partial(class_of, decision=decision, kept=kept))
    if decision.threshold is None:
        return labels
    threshold = decision.threshold
    if decision.at_most_best:
        threshold = jnp.minimum(threshold, jnp.where(inside, certainty, -jnp.inf).max())
    return jnp.where(certainty >= threshold, labels, 0)
