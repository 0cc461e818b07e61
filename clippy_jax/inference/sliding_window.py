"""Similarity maps of images larger than the model is at home with: window by window, averaged where they overlap."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from clippy_jax.inference import label_maps
from clippy_jax.inference.model import Model
from clippy_jax.mesh import batch_sharding


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where the windows along a side begin, in pixels; the last is moved back to end where the side ends."""
    return [*range(0, length - window, stride), length - window]


def similarity_maps(
    model: Model, images: UInt8[Array, "B H W 3"], classes: Float[Array, "C D"], window: int, stride: int
) -> Float[Array, "B h w C"]:
    """The similarity of every patch with every class, the mean over the windows that hold the patch.

    The windows are cut at whole patches, so that the maps are averaged on the grid of patches, before any stretching.
    The model sees windows of one size only, whatever the size of the images.

    Args:
      model: encodes the windows.
      images: sharded over the model's mesh.
      classes: their embeddings.
      window: pixels along each side of a window, at most H and W; like `stride` a multiple of the patch size.
      stride: pixels from one window to the next.
    """
    patch_size = model.config.image.patch_size
    batch, *lengths, _ = images.shape
    begins = [starts(length, window, stride) for length in lengths]
    grid = [length // patch_size for length in lengths]
    make_zeros = jax.jit(jnp.zeros, static_argnums=0, out_shardings=batch_sharding(model.mesh))
    sums = make_zeros((batch, *grid, len(classes)))
    for top in begins[0]:
        for left in begins[1]:
            patches, _ = model.encode_image(_cut(images, np.array([top, left]), window))
            maps = label_maps.batch_similarity_maps(patches, classes, model.mesh)
            sums = _add(sums, maps, np.array([top, left]) // patch_size)
    rows, columns = (_windows_over(side, count, patch_size, window // patch_size) for side, count in zip(begins, grid))
    return sums / (rows[:, None, None] * columns[:, None])


def _windows_over(begins: Sequence[int], patches: int, patch_size: int, window: int) -> Float[np.ndarray, "patches"]:
    over = np.zeros(patches, np.float32)
    for begin in begins:
        over[begin // patch_size : begin // patch_size + window] += 1
    return over


@functools.partial(jax.jit, static_argnames="window")
def _cut(images: UInt8[Array, "B H W 3"], corner: Int[Array, "2"], window: int) -> UInt8[Array, "B window window 3"]:
    return jax.lax.dynamic_slice(images, (0, corner[0], corner[1], 0), (len(images), window, window, 3))


@functools.partial(jax.jit, donate_argnums=0)
def _add(
    sums: Float[Array, "B h w C"],
    maps: Float[Array, "B window window C"],
    corner: Int[Array, "2"],
) -> Float[Array, "B h w C"]:
    begin = (0, corner[0], corner[1], 0)
    return jax.lax.dynamic_update_slice(sums, jax.lax.dynamic_slice(sums, begin, maps.shape) + maps, begin)
