"""Scores of images larger than the model is at home with: window by window, averaged where they overlap.

Stretching a window, adding it up, dividing by how many windows lie over a pixel and stretching the whole to another
size are all linear along each side. So the windows' maps stand side by side as one large grid of patches, and two
matrices take it to pixels (`label_maps.stretched`). A softmax is not linear: where probabilities are averaged, they are
made for a strip of pixels at a time (`probability_strips`). Either way no map of scores at full size exists.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, UInt8

from clippy_jax.inference import label_maps
from clippy_jax.inference.model import Model
from clippy_jax.models.clippy import PIXEL_STATISTICS
from clippy_jax.models.position_embedding import bicubic_matrix

Stretch = Literal["patches", "bilinear", "bicubic"]


@dataclasses.dataclass(frozen=True)
class Side:
    """The windows along one side of an image, the same for all images with as many of them.

    Attributes:
      window: pixels of a window.
      stride: from the beginning of one to that of the next; the last is moved back to end where the image ends.
      count: how many there are.
      patch_size: pixels of a patch. What is left of a window beside whole patches is not seen, save with `padded`.
      padded: whether a window is filled up to whole patches, evenly at both ends.
      stretch: how a window's patches become pixels; with `patches` they are averaged as they are, and everything is
        counted in patches, which the window and the stride then are whole numbers of.
    """

    window: int
    stride: int
    count: int
    patch_size: int
    padded: bool = False
    stretch: Stretch = "patches"

    @staticmethod
    def of(length: int, window: int, stride: int, patch_size: int, padded: bool, stretch: Stretch) -> "Side":
        """The windows along a side of `length` pixels; a window of 0, or one longer than the side, is the side."""
        window = min(window or length, length)
        count = 1 + -(-(length - window) // stride) if length > window else 1
        return Side(window, stride or window, count, patch_size, padded, stretch)

    @property
    def length(self) -> int:
        """The longest side that has so many windows."""
        return self.window + (self.count - 1) * self.stride

    @property
    def patches(self) -> int:
        """Patches along a window."""
        return (-(-self.window // self.patch_size)) if self.padded else self.window // self.patch_size

    def begins(self, length: Int[Array, ""]) -> Int32[Array, "count"]:
        """Where the windows of a side of `length` pixels begin."""
        return jnp.minimum(jnp.arange(self.count) * self.stride, length - self.window)

    def weights(
        self, length: Int[Array, ""], final: Int[Array, ""], padded: int
    ) -> Float[Array, "padded count*patches"]:
        """How much of each patch of each window is in each of `final` pixels of a label map; past them no meaning.

        Args:
          length: pixels of the side as fed.
          final: pixels of the side of the label map.
          padded: at least that, and static.
        """
        unit = self.patch_size if self.stretch == "patches" else 1
        window, longest = self.window // unit, self.length // unit
        place = jnp.arange(longest)[:, None] - self.begins(length) // unit
        inside = (place >= 0) & (place < window)
        of_window = jnp.asarray(self.of_window(window))[jnp.clip(place, 0, window - 1)]
        spread = jnp.where(inside[:, :, None], of_window, 0).reshape(longest, -1)
        means = spread / jnp.maximum(inside.sum(axis=1, keepdims=True), 1)
        stretched = label_maps.interpolation_weights(final, padded, length // unit, longest)
        return jnp.matmul(stretched, means, precision=label_maps.HIGHEST)

    def of_window(self, window: int) -> Float[Array, "window patches"]:
        """How much of each patch is in each of the pixels (or patches) of a window."""
        if self.stretch == "patches":
            return np.eye(window, dtype=np.float32)
        seen = self.patches * self.patch_size if self.padded else self.window
        if self.stretch == "bicubic":
            matrix = bicubic_matrix(self.patches, seen, seen / self.patches)
        else:
            matrix = label_maps.interpolation_weights(seen, seen, self.patches)
        before = (seen - self.window) // 2
        return matrix[before : before + self.window]


def window_scores(
    model: Model,
    images: UInt8[Array, "B H W 3"],
    sizes: Int[Array, "B 2"],
    classes: Float[Array, "P D"],
    sides: tuple[Side, Side],
) -> Float[Array, "B R C P"]:
    """The similarity of every patch of every window with every name, windows side by side.

    The model sees windows of one size only, whatever the size of the images.

    Args:
      model: encodes the windows.
      images: sharded over the model's mesh, padded at the lower right.
      sizes: height and width of each image in pixels.
      classes: embeddings of the names.
      sides: the windows along the height and the width.
    """
    rows, columns = sides
    statistics = model.config.image.pixel_statistics
    grid = []
    for row in range(rows.count):
        in_row = []
        for column in range(columns.count):
            patches, _ = model.encode_image(_cut(images, sizes, row, column, sides, statistics))
            in_row.append(label_maps.batch_similarity_maps(patches, classes, model.mesh))
        grid.append(jnp.concatenate(in_row, axis=2) if columns.count > 1 else in_row[0])
    return jnp.concatenate(grid, axis=1) if rows.count > 1 else grid[0]


@functools.partial(jax.jit, static_argnames=("sides", "statistics"))
def _cut(
    images: UInt8[Array, "B H W 3"],
    sizes: Int[Array, "B 2"],
    row: Int[Array, ""],
    column: Int[Array, ""],
    sides: tuple[Side, Side],
    statistics: str,
) -> UInt8[Array, "B h w 3"]:
    """One window of every image, cut or filled up to whole patches."""

    def cut(image: UInt8[Array, "H W 3"], size: Int[Array, "2"]) -> UInt8[Array, "h w 3"]:
        corner = [side.begins(size[axis])[index] for axis, (side, index) in enumerate(zip(sides, (row, column)))]
        return jax.lax.dynamic_slice(image, (*corner, 0), (*(side.window for side in sides), 3))

    windows = jax.vmap(cut)(images, sizes)
    seen = [side.patches * side.patch_size for side in sides]
    missing = [max(0, length - side.window) for length, side in zip(seen, sides)]
    padding = [(0, 0), *((count // 2, count - count // 2) for count in missing), (0, 0)]
    if any(missing):
        # A zero, once the towers have normalised it.
        mean = jnp.round(255 * jnp.array(PIXEL_STATISTICS[statistics][0])).astype(jnp.uint8)
        outside = jnp.pad(jnp.zeros(windows.shape[:3], bool), padding[:3], constant_values=True)
        windows = jnp.where(outside[..., None], mean, jnp.pad(windows, padding))
    return windows[:, : seen[0], : seen[1]]


def probability_strips(
    scores: Float[Array, "R C P"],
    fed: Int[Array, "2"],
    sides: tuple[Side, Side],
    scale: float,
    size: Int[Array, "2"],
    padded: tuple[int, int],
) -> label_maps.Strips:
    """Strips of the softmax over names at every pixel as fed, the mean over the windows that hold the pixel, stretched.

    A strip needs a few rows of the image as fed, of which alone the probabilities are made.

    Args:
      scores: as `window_scores` gives them; for one image.
      fed: height and width of the image as fed, in pixels.
      sides: the windows.
      scale: what scores are multiplied with before.
      size: height and width of the label map in pixels.
      padded: the same with padding; at most twice as many rows, or one strip.
    """
    longest = [side.length for side in sides]
    rows, columns = (
        label_maps.interpolation_weights(size[axis], padded[axis], fed[axis], longest[axis]) for axis in range(2)
    )
    needed = longest[0]  # rows as fed
    if padded[0] > label_maps.STRIP_ROWS:
        needed = min(needed, -(-2 * label_maps.STRIP_ROWS * longest[0] // padded[0]) + 3)

    def strips(function: Callable[[Any], Any], names: Callable[[Any], Any]) -> Any:
        def strip(number: Int[Array, ""]) -> Any:
            of_strip = jax.lax.dynamic_slice_in_dim(rows, number * label_maps.STRIP_ROWS, label_maps.STRIP_ROWS)
            first = jnp.minimum(jnp.argmax(of_strip[0] > 0), longest[0] - needed)
            weights = jax.lax.dynamic_slice_in_dim(of_strip, first, needed, axis=1)
            probabilities = names(_probabilities(scores, fed, sides, scale, first + jnp.arange(needed)))
            low = jnp.einsum("Sh,hwp->Swp", weights, probabilities, precision=label_maps.HIGHEST)
            return function(jnp.einsum("Ww,Swp->SWp", columns, low, precision=label_maps.HIGHEST))

        return label_maps.over_strips(strip, padded[0])

    return strips


def _probabilities(
    scores: Float[Array, "R C P"], fed: Int[Array, "2"], sides: tuple[Side, Side], scale: float, rows: Int[Array, "N"]
) -> Float[Array, "N W P"]:
    """Of some rows of the image as fed; outside of it they carry no meaning."""
    of_window = [jnp.asarray(side.of_window(side.window)) for side in sides]
    begins = [side.begins(fed[axis]) for axis, side in enumerate(sides)]
    counts, patches = [side.count for side in sides], [side.patches for side in sides]
    windows = scores.reshape(counts[0], patches[0], counts[1], patches[1], -1)

    def add(number: Int[Array, ""], total: Float[Array, "N W P+1"]) -> Float[Array, "N W P+1"]:
        row, column = number // counts[1], number % counts[1]
        place = rows - begins[0][row]
        inside = (place >= 0) & (place < sides[0].window)

        def add_window(total: Float[Array, "N W P+1"]) -> Float[Array, "N W P+1"]:
            to_rows = of_window[0][jnp.clip(place, 0, sides[0].window - 1)]
            window = windows[row, :, column]
            pixels = jnp.einsum("Nh,Ww,hwp->NWp", to_rows, of_window[1], window, precision=label_maps.HIGHEST)
            shares = jnp.pad(jax.nn.softmax(scale * pixels), ((0, 0), (0, 0), (0, 1)), constant_values=1)
            shares = jnp.where(inside[:, None, None], shares, 0)
            corner = (0, begins[1][column], 0)
            shares += jax.lax.dynamic_slice(total, corner, shares.shape)
            return jax.lax.dynamic_update_slice(total, shares, corner)

        return jax.lax.cond(inside.any(), add_window, lambda total: total, total)

    # The last counts windows.
    nothing = jnp.zeros_like(scores, shape=(len(rows), sides[1].length, scores.shape[-1] + 1))
    total = jax.lax.fori_loop(0, counts[0] * counts[1], add, nothing)
    return total[..., :-1] / jnp.maximum(total[..., -1:], 1)
