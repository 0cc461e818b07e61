"""Colours that stay apart from each other, for readers with any colour vision."""

import colorsys
import functools

import numpy as np
from jaxtyping import Int

# Okabe and Ito's colours without black, then those of Paul Tol's "muted" scheme that are farthest from them.
DISTINCT = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (136, 34, 85),
    (153, 153, 51),
    (51, 34, 136),
    (204, 102, 119),
    (17, 119, 51),
    (221, 204, 119),
    (170, 68, 153),
)
MOST = 256


def colour(index: int) -> tuple[int, int, int]:
    """The RGB colour of the label that is `index`-th in the legend (below 256); the first 14 are the most distinct."""
    return tuple(_colours()[index].tolist())


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
    chosen = [np.array(rgb) for rgb in DISTINCT]
    nearest = np.min([np.linalg.norm(candidates - rgb, axis=1) for rgb in chosen], axis=0)
    while len(chosen) < MOST:
        chosen.append(candidates[nearest.argmax()])
        nearest = np.minimum(nearest, np.linalg.norm(candidates - chosen[-1], axis=1))
    return np.stack(chosen)
