"""How far a figure would move with other images: bootstrap intervals, and which differences of two models are real.

Every evaluation is a function of sums of counts over images (pixels of a class, a right answer). Drawing as many images
again, with replacement, and computing the figure anew, many times, shows its spread (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993). Two models that saw the same images are compared on the same draws, so what makes
an image hard for both cancels out.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

CONFIDENCE = 0.95
DRAWS = 2000
_COUNTS_AT_ONCE = 2**24  # weights of images held at a time

# Figures (S of them) from the sums of K counts, for any number of draws at once.
Statistic = Callable[[Float[np.ndarray, "draws K"]], Float[np.ndarray, "draws S"]]


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
    figures = np.concatenate([statistic(weights @ counts) for weights in _draws(len(counts), seed)])
    return [_percentiles(figure) for figure in figures.T]


def compare(
    first: Float[np.ndarray, "I K"], second: Float[np.ndarray, "I K"], statistic: Statistic, seed: int = 0
) -> list[Difference]:
    """The difference of each figure between two models, of which image i is the same in both."""
    if first.shape != second.shape:
        raise ValueError(f"counts of {first.shape} and {second.shape} are not of the same images")
    draws = [
        statistic(weights @ second) - statistic(weights @ first) for weights in _draws(len(first), seed)
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


def mean(sums: Float[np.ndarray, "draws 1+S"]) -> Float[np.ndarray, "draws S"]:
    """Shares: the sums of the other counts over that of the first."""
    return _divided(sums[:, 1:], sums[:, :1])


def mean_iou(sums: Float[np.ndarray, "draws 3*C"]) -> Float[np.ndarray, "draws 1"]:
    """mIoU over the classes that occur, from each class's intersection, labelled and predicted pixels."""
    intersection, labelled, predicted = np.split(sums, 3, axis=1)
    ious = _divided(intersection, labelled + predicted - intersection)
    return np.nanmean(ious, axis=1, keepdims=True)


def _draws(images: int, seed: int) -> Iterator[Int[np.ndarray, "draws I"]]:
    """How often each image is in each draw; in parts, which bounds the memory."""
    random = np.random.default_rng(seed)
    at_once = max(1, min(DRAWS, _COUNTS_AT_ONCE // max(images, 1)))
    for start in range(0, DRAWS, at_once):
        yield random.multinomial(images, np.full(images, 1 / images), size=min(at_once, DRAWS - start)).astype(float)


def _percentiles(figures: Float[np.ndarray, "draws"]) -> Interval:
    beyond = 100 * (1 - CONFIDENCE) / 2
    return Interval(*(float(bound) for bound in np.nanpercentile(figures, [beyond, 100 - beyond])))


def _p_value(differences: Float[np.ndarray, "draws"]) -> float:
    """Twice the share of draws on the other side of zero; never quite 0, since more draws might find one."""
    below, above = (differences <= 0).sum(), (differences >= 0).sum()
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1)))


def _divided(numerators: Float[np.ndarray, "..."], denominators: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """NaN where there is nothing to divide by."""
    return np.divide(numerators, denominators, out=np.full(numerators.shape, np.nan), where=denominators > 0)
