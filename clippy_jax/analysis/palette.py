"""Colours that stay apart from each other, for readers with any colour vision."""

import colorsys
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from clippy_jax.datasets.vocabulary import BACKGROUND

# Okabe and Ito's colours without black, then those of Paul Tol's "muted" scheme that are farthest from them.
DISTINCT = ("e69f00 56b4e9 009e73 cc79a7 f0e442 d55e00 0072b2 882255 999933 332288 cc6677 117733 ddcc77 aa4499").split()
Colour = tuple[int, int, int]
MOST = 256


def colour(index: int) -> Colour:
    """The RGB colour of the label that is `index`-th in the legend (below 256); the first 14 are the most distinct."""
    return tuple(_colours()[index].tolist())


def word_colours(words: Sequence[str]) -> dict[int, Colour]:
    """A colour for each word by its index; "background" has none."""
    coloured = [index for index, word in enumerate(words) if word.lower() != BACKGROUND]
    return {index: colour(position) for position, index in enumerate(coloured)}


@functools.cache
def _colours() -> Int[np.ndarray, "256 3"]:
    """The distinct colours, then of a grid of hues always the one farthest from all before it."""
    candidates = np.array(
        [
            colorsys.hls_to_rgb(hue / 36, lightness, saturation)
            for hue in range(36)
            for lightness in (0.3, 0.45, 0.6, 0.75)
            for saturation in (0.35, 0.65, 0.95)
        ]
    )
    candidates = np.round(255 * candidates).astype(int)
    chosen = [np.array(list(bytes.fromhex(rgb))) for rgb in DISTINCT]
    nearest = np.min([np.linalg.norm(candidates - rgb, axis=1) for rgb in chosen], axis=0)
    while len(chosen) < MOST:
        chosen.append(candidates[nearest.argmax()])
        nearest = np.minimum(nearest, np.linalg.norm(candidates - chosen[-1], axis=1))
    return np.stack(chosen)
