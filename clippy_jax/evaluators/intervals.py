"""How far a figure would move with other images: bootstrap intervals, and which differences of two models are real.

Every evaluation is a function of sums of counts over images (pixels of a class, a right answer). Drawing as many images
again, with replacement, and computing the figure anew, many times, shows its spread (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993). Two models that saw the same images are compared on the same draws, so what makes
an image hard for both cancels out.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

CONFIDENCE = 0.95
DRAWS = 2000
_COUNTS_AT_ONCE = 2**24  # weights of images held at a time

# Figures (S of them) from the sums of K counts, for any number of draws at once.
Statistic = Callable[[Float[np.ndarray, "draws K"]], Float[np.ndarray, "draws S"]]


class Ratio(NamedTuple):
    """How a figure follows from counts: numerator over denominator, each summed over the images.

    Where both are counted by class, `how` says what is made of the classes: `pooled` adds them up before dividing,
    `mean` is over the classes that there are, `mean_with_absent` takes those that there are not for 0, `lowest` is the
    lowest of those that there are, `difference` is the first minus the second.
    """

    numerator: str
    denominator: str
    how: Literal["pooled", "mean", "mean_with_absent", "lowest", "difference"] = "pooled"

    def of(
        self, numerators: Float[np.ndarray, "draws C"], denominators: Float[np.ndarray, "draws C"]
    ) -> Float[np.ndarray, "draws"]:
        """The figure from sums over images; NaN where there is nothing to divide by."""
        if self.how == "pooled":
            return _divided(numerators.sum(axis=1), denominators.sum(axis=1))
        ratios = _divided(numerators, denominators)
        if self.how == "difference":
            return ratios[:, 0] - ratios[:, 1]
        if self.how == "mean_with_absent":
            return np.nan_to_num(ratios).mean(axis=1)
        present = np.isfinite(ratios)
        if self.how == "mean":
            return _divided(np.where(present, ratios, 0).sum(axis=1), present.sum(axis=1))
        lowest = np.where(present, ratios, np.inf).min(axis=1)
        return np.where(np.isfinite(lowest), lowest, np.nan)


@dataclasses.dataclass(frozen=True)
class Counts:
    """What each image adds to the figures of a result.

    Attributes:
      images: their names, relative to the data set's folder.
      of: by name, the counts of each image, in all or by class.
      figures: by name, how each follows from the counts.
    """

    images: tuple[str, ...]
    of: Mapping[str, Shaped[np.ndarray, "I *C"]]
    figures: Mapping[str, Ratio]

    @staticmethod
    def of_images(
        folder: str | os.PathLike,
        names: Sequence[str | os.PathLike],
        numbers: Int[np.ndarray, "I"],
        of: Mapping[str, Shaped[np.ndarray, "I *C"]],
        figures: Mapping[str, Ratio],
    ) -> "Counts":
        """Those of the images `names[numbers]`, sorted by number: batches do not come in the order of a data set."""
        order = np.argsort(numbers)
        root = pathlib.Path(folder)
        paths = (pathlib.Path(names[number]) for number in numbers[order])
        images = tuple(str(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths)
        return Counts(images, {name: values[order] for name, values in of.items()}, figures)

    def columns(self) -> Float[np.ndarray, "I K"]:
        """All counts side by side, as `statistic` takes their sums."""
        return np.concatenate(
            [values.reshape(len(self.images), -1) for values in self.of.values()], axis=1, dtype=float
        )

    def statistic(self, sums: Float[np.ndarray, "draws K"]) -> Float[np.ndarray, "draws S"]:
        """Each figure, in the order of `figures`."""
        ends = np.cumsum([int(np.prod(values.shape[1:])) for values in self.of.values()])
        by_name = dict(zip(self.of, np.split(sums, ends[:-1], axis=1)))
        ratios = self.figures.values()
        return np.stack([ratio.of(by_name[ratio.numerator], by_name[ratio.denominator]) for ratio in ratios], axis=1)

    def intervals(self) -> dict[str, "Interval"]:
        """The interval of each figure."""
        return dict(zip(self.figures, bootstrap(self.columns(), self.statistic)))

    def right(self, figure: str) -> Bool[np.ndarray, "I"] | None:
        """Which images were right, if the figure is a share of images; None if it is not."""
        ratio = self.figures[figure]
        numerators, denominators = (self.of[name] for name in (ratio.numerator, ratio.denominator))
        is_share = ratio.how == "pooled" and (denominators == 1).all() and np.isin(numerators, (0, 1)).all()
        return numerators.astype(bool) if is_share and numerators.ndim == 1 else None


class Interval(NamedTuple):
    """The range that holds a figure with a probability of 95 %."""

    low: float
    high: float


class Difference(NamedTuple):
    """A figure of the second model minus that of the first."""

    value: float
    interval: Interval
    p_value: float  # of there being no difference, two-sided

    @property
    def is_real(self) -> bool:
        """Whether chance alone would bring such a difference in fewer than one of twenty cases."""
        return self.p_value < 1 - CONFIDENCE


def bootstrap(counts: Float[np.ndarray, "I K"], statistic: Statistic, seed: int = 0) -> list[Interval]:
    """The interval of each figure of `statistic`, by the percentiles of its draws.

    Args:
      counts: of each image.
      statistic: the figures as a function of sums over images. It may be NaN for a draw (a class that no image has).
      seed: of the draws.
    """
    kinds, times = np.unique(counts, axis=0, return_counts=True)  # images that count alike are drawn together
    figures = np.concatenate([statistic(weights @ kinds) for weights in _draws(times, seed)])
    return [_percentiles(figure) for figure in figures.T]


def compare(
    first: Float[np.ndarray, "I K"], second: Float[np.ndarray, "I K"], statistic: Statistic, seed: int = 0
) -> list[Difference]:
    """The difference of each figure between two models, of which image i is the same in both."""
    if first.shape != second.shape:
        raise ValueError(f"counts of {first.shape} and {second.shape} are not of the same images")
    kinds, times = np.unique(np.concatenate([first, second], axis=1), axis=0, return_counts=True)
    of_first, of_second = np.split(kinds, 2, axis=1)
    draws = [
        statistic(weights @ of_second) - statistic(weights @ of_first) for weights in _draws(times, seed)
    ]  # the same images in both
    differences = np.concatenate(draws).T
    whole = np.ones((1, len(first)))
    values = (statistic(whole @ second) - statistic(whole @ first))[0]
    return [Difference(float(value), _percentiles(of), _p_value(of)) for value, of in zip(values, differences)]


def mcnemar(first: Bool[np.ndarray, "I"], second: Bool[np.ndarray, "I"]) -> float:
    """The probability that two classifiers which are equally often right differ at least so much; McNemar's exact test.

    Only the images that one of them alone gets right tell; under equality each is a fair coin.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    tosses, fewer = only_first + only_second, min(only_first, only_second)
    if not tosses:
        return 1.0
    # In logarithms: 2^tosses overflows. Each term is the one before times (tosses - k) / (k + 1).
    k = np.arange(fewer)
    logarithms = np.concatenate([[0.0], np.cumsum(np.log(tosses - k) - np.log(k + 1))]) - tosses * np.log(2)
    return float(min(1.0, 2 * np.exp(logarithms).sum()))


def _draws(times: Int[np.ndarray, "kinds"], seed: int) -> Iterator[Float[np.ndarray, "draws kinds"]]:
    """How often each kind of image, of which there are `times`, is in each draw; in parts, which bounds the memory."""
    random, images = np.random.default_rng(seed), times.sum()
    at_once = max(1, min(DRAWS, _COUNTS_AT_ONCE // len(times)))
    for start in range(0, DRAWS, at_once):
        yield random.multinomial(images, times / images, size=min(at_once, DRAWS - start)).astype(float)


def _percentiles(figures: Float[np.ndarray, "draws"]) -> Interval:
    beyond = 100 * (1 - CONFIDENCE) / 2
    if np.isnan(figures).all():
        return Interval(np.nan, np.nan)
    return Interval(*(float(bound) for bound in np.nanpercentile(figures, [beyond, 100 - beyond])))


def _p_value(differences: Float[np.ndarray, "draws"]) -> float:
    """Twice the share of draws on the other side of zero; never quite 0, since more draws might find one.

    Draws in which the figure does not exist tell nothing.
    """
    differences = differences[~np.isnan(differences)]
    below, above = (differences <= 0).sum(), (differences >= 0).sum()
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1)))


def _divided(numerators: Float[np.ndarray, "..."], denominators: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """NaN where there is nothing to divide by."""
    return np.divide(numerators, denominators, out=np.full(numerators.shape, np.nan), where=denominators > 0)
