"""The pencil box: coordinates, outlines, patterns and noise that objects and backgrounds are drawn with.

Everything is a float32 NumPy function of coordinate arrays. Outlines are *depths*: positive inside, zero on the
border, in the units of the coordinates; the union of two outlines is the maximum of their depths.
"""

import functools

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

Field = Float[np.ndarray, "H W"]
Colours = Float[np.ndarray, "3 H W"]  # channels first: NumPy then works along whole planes
Colour = tuple[float, float, float] | Float[np.ndarray, "3"] | Colours


def centred_grid(pixels: int, extent: float) -> tuple[Field, Field]:
    """The (x, y) of a square's pixel centres: y grows downwards, both run over [-extent, extent]."""
    line = ((np.arange(pixels, dtype=np.float32) + 0.5) * (2 / pixels) - 1) * np.float32(extent)
    return np.meshgrid(line, line)


def turned(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    """Coordinates in a frame turned by `angle` radians."""
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * x + s * y, c * y - s * x


def ellipse(x: Field, y: Field, centre: tuple[float, float], radii: tuple[float, float]) -> Field:
    """Depth of an upright ellipse (exact for a circle)."""
    return (1 - np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1])) * np.float32(min(radii))


def limb(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float], radii: tuple[float, float]) -> Field:
    """Depth of a straight, round-ended limb whose radius runs from the first to the second of `radii`."""
    across, down = end[0] - start[0], end[1] - start[1]
    along = ((x - start[0]) * across + (y - start[1]) * down) / np.float32(across**2 + down**2)
    along = np.clip(along, 0, 1)
    distance = np.hypot(x - start[0] - along * across, y - start[1] - along * down)
    return radii[0] + along * (radii[1] - radii[0]) - distance


def union(*depths: Field) -> Field:
    """Depth of all outlines together."""
    return np.maximum.reduce(depths)


def step(value: Field, softness: float) -> Field:
    """0 below zero, 1 above, straight over +-`softness`: a threshold without jagged edges."""
    return np.clip(value / (2 * softness) + 0.5, 0, 1)


def mix(first: Colour, second: Colour, share: Field) -> Colours:
    """Blends two colours, each one colour ([3]) or an image of them ([3, H, W]): `share` of the second."""
    first, second = _planes(first), _planes(second)
    return first + (second - first) * share


def _planes(colour: Colour) -> Float[np.ndarray, "3 H W"] | Float[np.ndarray, "3 1 1"]:
    colour = np.asarray(colour, np.float32)
    return colour[:, None, None] if colour.ndim == 1 else colour


def vary(rng: np.random.Generator, colour: Colour, amount: float = 0.05) -> Float[np.ndarray, "3"]:
    """A tint of `colour`: another brightness, and each channel a little off."""
    tint = np.asarray(colour) * rng.uniform(1 - 2 * amount, 1 + 2 * amount) + rng.normal(0, amount / 2, 3)
    return np.clip(tint, 0, 1).astype(np.float32)


def noise(rng: np.random.Generator, pixels: int, columns: int, rows: int | None = None) -> Field:
    """Smooth noise around 0, about +-1, with so many bumps across and down a square of `pixels`."""
    bumps = rng.standard_normal((rows or columns, columns), np.float32)
    return _enlargement(rows or columns, pixels).T @ bumps @ _enlargement(columns, pixels)


@functools.cache
def _enlargement(bumps: int, pixels: int) -> Float[np.ndarray, "bumps pixels"]:
    """How much each pixel of a line takes from each bump: Pillow's bicubic resize, as a matrix."""
    unit_lines = Image.fromarray(np.eye(bumps, dtype=np.float32))
    return np.asarray(unit_lines.resize((pixels, bumps), Image.Resampling.BICUBIC))


def hexagons(x: Field, y: Field, size: float) -> tuple[Int[np.ndarray, "H W"], Int[np.ndarray, "H W"], Field, Field]:
    """A honeycomb whose cells have the side `size`.

    Returns each pixel's cell (q, r in axial coordinates), its distance from the cell's centre in sides, and its
    closeness to the cell's edge: 0 in the centre, 1 on an edge.
    """
    q, r = (np.sqrt(np.float32(3)) / 3 * x - y / 3) / size, (2 / 3 * y) / size
    s = -q - r
    q_cell, r_cell, s_cell = np.rint(q), np.rint(r), np.rint(s)
    q_error, r_error, s_error = abs(q_cell - q), abs(r_cell - r), abs(s_cell - s)
    q_worst = (q_error > r_error) & (q_error > s_error)
    r_worst = ~q_worst & (r_error > s_error)
    q_cell, r_cell = np.where(q_worst, -r_cell - s_cell, q_cell), np.where(r_worst, -q_cell - s_cell, r_cell)
    dq, dr = q - q_cell, r - r_cell
    ds = -dq - dr
    distance = np.sqrt(1.5 * (dq * dq + dr * dr + ds * ds))
    edge = np.maximum.reduce([abs(dq - dr), abs(dr - ds), abs(ds - dq)])
    return q_cell.astype(np.int32), r_cell.astype(np.int32), distance, edge
