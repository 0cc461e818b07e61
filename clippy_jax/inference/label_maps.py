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
from jaxtyping import Array, Bool, Float, Int, Int32

from clippy_jax.inference.background import Best, Decision, best_of, decide

STRIP_ROWS = 64
NAMES_AT_ONCE = 8  # of a map at full size
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


# Calls a function with the scores of a strip of rows after the other, [S, W, n], and puts what it gives together. The
# second argument picks names, of scores whose last axis is all of them.
Strips = Callable[[Callable[[Any], Any], Callable[[Any], Any]], Any]


def over_strips(strip: Callable[[Int[Array, ""]], Any], rows: int) -> Any:
    """What a function of a strip's number gives for all of them, put together along the rows."""
    given = jax.lax.map(strip, jnp.arange(rows // STRIP_ROWS))
    return jax.tree.map(lambda of: of.reshape(rows, *of.shape[2:]), given)


def stretched(scores: Float[Array, "R C P"], rows: Float[Array, "H R"], columns: Float[Array, "W C"]) -> Strips:
    """Strips of scores that two matrices make of those of the patches.

    Args:
      scores: of every patch with every name; of all windows side by side where there are several.
      rows: how much of each row of `scores` a pixel's row has; a multiple of `STRIP_ROWS`.
      columns: the same of columns.
    """

    def strips(function: Callable[[Any], Any], names: Callable[[Any], Any]) -> Any:
        wide = jnp.einsum("Ww,hwc->hWc", columns, names(scores), precision=HIGHEST)

        def strip(number: Int[Array, ""]) -> Any:
            of_strip = jax.lax.dynamic_slice_in_dim(rows, number * STRIP_ROWS, STRIP_ROWS)
            return function(jnp.einsum("Sh,hWc->SWc", of_strip, wide, precision=HIGHEST))

        return over_strips(strip, len(rows))

    return strips


def label_map(
    strips: Strips, padded: tuple[int, int], size: Int[Array, "2"], decision: Decision
) -> Int32[Array, "H W"]:
    """The class of every pixel.

    Args:
      strips: of the scores.
      padded: height and width of the map.
      size: height and width of the image in pixels; labels outside carry no meaning.
      decision: how a pixel gets its class.
    """

    def best(kept: Bool[Array, "C"] | None) -> Best:
        return strips(lambda scores: best_of(scores, decision, kept), lambda scores: scores)

    return decide(best, _inside(padded, size), decision)


def refined_label_map(
    strips: Strips,
    refine: Callable[[Float[Array, "H W n"]], Float[Array, "H W n"]],
    padded: tuple[int, int],
    size: Int[Array, "2"],
    decision: Decision,
) -> Int32[Array, "H W"]:
    """As `label_map`, of scores that something is made of first, which sees some names at all pixels at a time.

    `refine` makes of each name's scores others, whatever the other names.
    """
    names = len(decision.class_of_name)
    at_once = min(NAMES_AT_ONCE, names)

    def best(kept: Bool[Array, "C"] | None) -> Best:
        def some(first: Int[Array, ""]) -> Best:
            def pick(scores: Float[Array, "... P"]) -> Float[Array, "... n"]:
                filled = jnp.pad(scores, [(0, 0)] * (scores.ndim - 1) + [(0, -names % at_once)])
                return jax.lax.dynamic_slice_in_dim(filled, first, at_once, axis=-1)

            return best_of(refine(strips(lambda scores: scores, pick)), decision, kept, first)

        # Made like the size, which is on as many devices as the scores.
        none = jnp.full_like(size, -jnp.inf, jnp.float32, shape=padded)
        nothing = Best(none, jnp.zeros_like(size, jnp.int32, shape=padded), none)
        firsts = jnp.arange(0, names, at_once)
        return jax.lax.scan(lambda found, first: (found.or_better(some(first)), None), nothing, firsts)[0]

    return decide(best, _inside(padded, size), decision)


def _inside(padded: tuple[int, int], size: Int[Array, "2"]) -> Bool[Array, "H W"]:
    return (jnp.arange(padded[0]) < size[0])[:, None] & (jnp.arange(padded[1]) < size[1])


def stretched_weights(
    size: Int[Array, "2"], padded: tuple[int, int], grid: tuple[int, int]
) -> tuple[Float[Array, "H h"], Float[Array, "W w"]]:
    """`rows` and `columns` of `stretched` for one grid of patches that covers the image."""
    return tuple(interpolation_weights(size[axis], padded[axis], grid[axis]) for axis in range(2))


@functools.partial(jax.jit, static_argnames=("padded", "decision"))
def _label_map(
    patches: Float[Array, "h w D"],
    classes: Float[Array, "P D"],
    size: Int[Array, "2"],
    padded: tuple[int, int],
    decision: Decision,
) -> Int32[Array, "H W"]:
    scores = similarities(patches, classes)
    return label_map(stretched(scores, *stretched_weights(size, padded, scores.shape[:2])), padded, size, decision)


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
