"""The class of a pixel by its scores; background is asked for by name, or is where no class is certain."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
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


class Best(NamedTuple):
    """The best of some names at every pixel, so that names can be looked at in parts."""

    score: Float[Array, "..."]  # of the best name that may be chosen
    label: Int32[Array, "..."]  # its class
    total: Float[Array, "..."]  # logarithm of the sum of exp(scale x score) over all names

    def or_better(self, other: "Best") -> "Best":
        """The best of these names and of others that come after them; the first among equals."""
        return Best(
            jnp.maximum(self.score, other.score),
            jnp.where(other.score > self.score, other.label, self.label),
            jnp.logaddexp(self.total, other.total),
        )

    def certainty(self, decision: Decision) -> Float[Array, "..."]:
        """How certain the best name is, on the scale of the decision."""
        if decision.certainty == "similarity":
            return self.score
        return jnp.exp(decision.scale * self.score - self.total)


def best_of(
    scores: Float[Array, "... n"],
    decision: Decision,
    kept: Bool[Array, "C"] | None = None,
    first: Int32[Array, ""] | int = 0,
) -> Best:
    """The best of the names `first`, `first` + 1, ...; the threshold is not yet applied.

    Args:
      scores: of each name; past the decision's names they carry no meaning.
      decision: what the names stand for.
      kept: classes that may be chosen; by default all.
      first: the number of the first of these names.
    """
    numbers = first + jnp.arange(scores.shape[-1])
    class_of_name = jnp.asarray(decision.class_of_name, jnp.int32)[
        jnp.minimum(numbers, len(decision.class_of_name) - 1)
    ]
    scores = jnp.where(numbers < len(decision.class_of_name), scores, -jnp.inf)
    allowed = scores if kept is None else jnp.where(kept[class_of_name], scores, -jnp.inf)
    total = jax.nn.logsumexp(decision.scale * scores, axis=-1)
    return Best(allowed.max(axis=-1), class_of_name[allowed.argmax(axis=-1)], total)


def decide(
    best: Callable[[Bool[Array, "C"] | None], Best], inside: Bool[Array, "H W"], decision: Decision
) -> Int32[Array, "H W"]:
    """The class of every pixel of an image.

    Args:
      best: the best name of every pixel, of the classes that may be chosen (None for all).
      inside: which pixels belong to the image.
      decision: how they get their classes.
    """
    found = best(None)
    if decision.smallest_share:
        pixels = jnp.bincount(jnp.where(inside, found.label, decision.classes).ravel(), length=decision.classes + 1)
        foreground = pixels[1 : decision.classes]
        found = best(jnp.concatenate([jnp.ones(1, bool), foreground > decision.smallest_share * foreground.sum()]))
    if decision.threshold is None:
        return found.label
    certainty, threshold = found.certainty(decision), decision.threshold
    if decision.at_most_best:
        threshold = jnp.minimum(threshold, jnp.where(inside, certainty, -jnp.inf).max())
    return jnp.where(certainty >= threshold, found.label, 0)
