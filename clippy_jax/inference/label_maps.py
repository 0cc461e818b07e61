"""From patch embeddings to a label for every pixel: similarity maps, stretched bilinearly, and the class of each pixel.

Stretching is linear, so the similarities of stretched features equal the stretched similarities; the latter are a tenth
of the size. A map is made in strips of rows, so memory does not grow with the image's height, and for any size up to a
padded one, so images of many sizes share one compiled function.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Int32

from clippy_jax.inference.background import class_of

STRIP_ROWS = 64
HIGHEST = jax.lax.Precision.HIGHEST


def padded_length(length: int) -> int:
    """The next multiple of the strip's height."""
    return -(-length // STRIP_ROWS) * STRIP_ROWS


def interpolation_weights(length: Int[Array, ""] | int, padded: int, patches: int) -> Float[Array, "padded patches"]:
    """The bilinear interpolation from `patches` to `length` positions as a matrix.

    As PyTorch's `interpolate(mode="bilinear", align_corners=False)`; rows past `length` carry no meaning.
    """
    position = (jnp.arange(padded) + 0.5) * (patches / length) - 0.5
    position = jnp.clip(position, 0, patches - 1)
    return jnp.maximum(0, 1 - jnp.abs(position[:, None] - jnp.arange(patches)))


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
    similarities: Float[Array, "h w C"],
    size: Int[Array, "2"],
    padded: tuple[int, int],
    choose: Callable[[Float[Array, "S W C"]], Int32[Array, "S W"]],
) -> Int32[Array, "H W"]:
    """The class of every pixel.

    Args:
      similarities: of every patch with every class.
      size: height and width of the image in pixels.
      padded: at least that, and static; both multiples of `STRIP_ROWS`. Labels outside `size` carry no meaning.
      choose: the class of a pixel by its similarities.
    """
    grid_height, grid_width, _ = similarities.shape
    columns = interpolation_weights(size[1], padded[1], grid_width)
    rows = interpolation_weights(size[0], padded[0], grid_height)
    wide = jnp.einsum("Ww,hwc->hWc", columns, similarities, precision=HIGHEST)

    def strip(strip_rows: Float[Array, "S h"]) -> Int32[Array, "S W"]:
        return choose(jnp.einsum("Sh,hWc->SWc", strip_rows, wide, precision=HIGHEST))

    return jax.lax.map(strip, rows.reshape(-1, STRIP_ROWS, grid_height)).reshape(padded)


@functools.partial(jax.jit, static_argnames=("padded", "number_of_classes"))
def _label_map(patches, classes, size, padded, number_of_classes):
    choose = functools.partial(class_of, classes=number_of_classes)
    return label_map(similarities(patches, classes), size, padded, choose)


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
    labels = _label_map(patches, classes, size, padded, number_of_classes or len(classes))
    return np.asarray(labels)[:height, :width]
