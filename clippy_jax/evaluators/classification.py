"""How far in front an image's own class is, and what follows from it."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int32

from clippy_jax.evaluators.intervals import Counts, Ratio
from clippy_jax.evaluators.result import THIS, Cell, Result, markdown


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationResult(Result):
    """Shares of the images whose own class is the first choice, or among the first five."""

    top1: float
    top5: float

    def figures(self) -> dict[str, float]:
        """Top-1 and top-5."""
        return {"top1": self.top1, "top5": self.top5}

    def published(self) -> Sequence[Sequence[Cell]]:
        """(who, top-1, top-5), where it was measured in the same way."""
        return ()

    def as_json(self) -> dict[str, Any]:
        """As of every result, and whether published figures were measured in the same way."""
        return super().as_json() | {"published_comparable": bool(self.published())}

    def tables(self) -> list[str]:
        """One table."""
        rows = [(THIS, self.cell("top1"), self.cell("top5")), *self.published()]
        return [markdown((self.task, "top-1", "top-5"), rows)]


def class_ranks(scores: Float[np.ndarray, "I C"], labels: Int32[np.ndarray, "I"]) -> Int[np.ndarray, "I"]:
    """The number of classes before each row's own by score; among equals the lower class comes first.

    It is counted from those behind, of which a score of NaN has none: a model that returns NaN is never right.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    later = np.arange(scores.shape[1]) > labels[:, None]
    return scores.shape[1] - 1 - ((scores < own) | ((scores == own) & later)).sum(axis=1)


def shares_right(ranks: Int[np.ndarray, "I"], choices: Sequence[int]) -> list[float]:
    """For each number of choices, the share of rows whose own class is among the highest scores."""
    return [float((ranks < number).mean()) for number in choices]


def rank_counts(
    folder: str | os.PathLike,
    names: Sequence[str | os.PathLike],
    numbers: Int[np.ndarray, "I"],
    ranks: Int[np.ndarray, "I"],
) -> Counts:
    """Top-1 and top-5 of each of the images `names[numbers]`."""
    of = {"images": np.ones(len(ranks), np.uint8), "top1": ranks < 1, "top5": ranks < 5}
    return Counts.of_images(folder, names, numbers, of, {name: Ratio(name, "images") for name in ("top1", "top5")})
