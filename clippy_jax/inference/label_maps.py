"""From patch embeddings to a label for every pixel: similarity maps, stretched bilinearly, and the class of each pixel.

Stretching is linear, so the similarities of stretched features equal the stretched similarities; the latter are a tenth
of the size. A map is made in strips of rows, so memory does not grow with the image's height, and for any size up to a
padded one, so images of many sizes share one compiled function.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Int32

from clippy_jax.inference.background import Decision, decide

STRIP_ROWS = 64
HIGHEST = jax.lax.Precision.HIGHEST


def padded_length(length: int) -> int:
    """The next multiple of the strip's height."""
    return -(-length // STRIP_ROWS) * STRIP_ROWS


def interpolation_weights(
    length: Int[Array, ""] | int, padded: int, inputs: Int[Array, ""] | int, columns: int | None = None
) -> Float[Array, "padded columns"]:
    """The bilinear interpolation from `inputs` to `length` positions as a matrix.

    As PyTorch's `interpolate(mode="bilinear", align_corners=False)`; rows past `length` carry no meaning, columns past
    `inputs` are 0. There are `columns` columns, by default as many as `inputs`.
    """
    position = (jnp.arange(padded) + 0.5) * (inputs / length) - 0.5
    position = jnp.clip(position, 0, inputs - 1)
    return jnp.maximum(0, 1 - jnp.abs(position[:, None] - jnp.arange(columns or inputs)))


@jax.jit
def similarities(vectors: Float[Array, "... D"], classes: Float[Array, "C D"]) -> Float[Array, "... C"]:
    """The cosine of every vector with every class; both come L2-normalised."""
    return jnp.einsum("...d,cd->...c", vectors, classes, precision=HIGHEST)


@functools.partial(jax.jit, static_argnames="mesh")
def batch_similarity_maps(
    patches: Float[Array, "B h w D"], classes: Float[Array, "C D"], mesh: Mesh
) -> Float[Array, "B h w C"]:
    """The similarities of a batch sharded over `data`, one image at a time: the same bits on any number of devices."""

    def of_shard(patches: Float[Array, "b h w D"], classes: Float[Array, "C D"]) -> Float[Array, "b h w C"]:
        return jax.lax.map(lambda image: similarities(image, classes), patches)

    split = PartitionSpec("data")
    return jax.shard_map(of_shard, mesh=mesh, in_specs=(split, PartitionSpec()), out_specs=split)(patches, classes)


def label_map(
    scores: Float[Array, "R C P"],
    rows: Float[Array, "H R"],
    columns: Float[Array, "W C"],
    size: Int[Array, "2"],
    decision: Decision,
    refine: Callable[[Float[Array, "H W P"]], Float[Array, "H W P"]] | None = None,
) -> Int32[Array, "H W"]:
    """The class of every pixel.

    Args:
      scores: of every patch with every name; of all windows side by side where there are several.
      rows: how much of each row of `scores` a pixel's row has; a multiple of `STRIP_ROWS`.
      columns: the same of columns.
      size: height and width of the image in pixels; labels outside carry no meaning.
      decision: how a pixel gets its class.
      refine: what is made of all scores before; for it all are held at once.
    """
    wide = jnp.einsum("Ww,hwc->hWc", columns, scores, precision=HIGHEST)
    padded = len(rows), len(columns)
    in_strips = rows.reshape(-1, STRIP_ROWS, rows.shape[1])

    def strips(function: Callable) -> Any:
        def strip(strip_rows: Float[Array, "S h"]) -> Any:
            return function(jnp.einsum("Sh,hWc->SWc", strip_rows, wide, precision=HIGHEST))

        return jax.tree.map(lambda of: of.reshape(*padded, *of.shape[3:]), jax.lax.map(strip, in_strips))

    if refine is not None:
        refined = refine(strips(lambda strip: strip))
        strips = lambda function: function(refined)  # noqa: E731
    inside = (jnp.arange(padded[0]) < size[0])[:, None] & (jnp.arange(padded[1]) < size[1])
    return decide(strips, inside, decision)


def stretched_weights(
    size: Int[Array, "2"], padded: tuple[int, int], grid: tuple[int, int]
) -> tuple[Float[Array, "H h"], Float[Array, "W w"]]:
    """`rows` and `columns` of `label_map` for one grid of patches that covers the image."""
    return tuple(interpolation_weights(size[axis], padded[axis], grid[axis]) for axis in range(2))


@functools.partial(jax.jit, static_argnames=("padded", "decision"))
def _label_map(patches, classes, size, padded, decision):
    scores = similarities(patches, classes)
    return label_map(scores, *stretched_weights(size, padded, scores.shape[:2]), size, decision)


def name_pixels(
    patches: Float[Array, "h w D"],
    classes: Float[np.ndarray, "P D"],
    height: int,
    width: int,
    number_of_classes: int | None = None,
) -> Int32[np.ndarray, "H W"]:
    """The index of the most similar class at every pixel of one image of `height` by `width`.

    Names past `number_of_classes` are folded into class 0; by default none are.
    """
    padded = (padded_length(height), padded_length(width))
    size = np.array([height, width], np.int32)
    decision = Decision.folding(len(classes), number_of_classes or len(classes))
    labels = _label_map(patches, classes, size, padded, decision)
    return np.asarray(labels)[:height, :width]
