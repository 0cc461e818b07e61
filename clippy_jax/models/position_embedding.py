"""Learned position embeddings, resized to any grid of patches exactly as PyTorch's bicubic interpolation does it.

`jax.image.resize(..., "cubic")` uses the cubic kernel with a = -0.5 and PyTorch the one with a = -0.75, so the two do
not agree. The sampling weights are small matrices (14 columns for a ViT trained at 224 pixels), built in NumPy while
tracing; what is left on the device is one matrix product along each axis.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

CUBIC_A = -0.75  # PyTorch's bicubic kernel
PILLOW_CUBIC_A = -0.5  # and its antialiased one, which is Pillow's


def resize_position_embedding(
    table: Float[Array, "1 tokens D"],
    grid: tuple[int, int],
    interpolation: Literal["dino", "plain", "antialias"],
) -> Float[Array, "1 new_tokens D"]:
    """Fits a table made for a square grid to the patch grid (rows, columns) of another image size.

    Entries beyond those of the grid stand before them, and stay: the CLS token's, where there is one.

    `dino` samples at the coordinates of the scale factor (grid + 0.1) / trained grid, as `interpolate_pos_encoding` of
    DINO's and DINOv2's `vision_transformer.py` does; `plain` uses the true ratio, as transformers does for them and
    for SigLIP;
    `antialias` also widens the kernel where the grid shrinks, as DINOv2 with registers does in both. All leave the
    table alone on its own grid.
    """
    trained = math.isqrt(table.shape[1])
    others = table.shape[1] - trained**2
    if grid == (trained, trained):
        return table
    if interpolation == "antialias":
        rows, columns = (antialiased_bicubic_matrix(trained, size) for size in grid)
    else:
        margin = 0.1 if interpolation == "dino" else 0.0
        rows, columns = (bicubic_matrix(trained, size, (size + margin) / trained) for size in grid)
    patches = table[0, others:].reshape(trained, trained, -1)
    patches = jnp.einsum("hi,wj,ijd->hwd", rows, columns, patches, precision=jax.lax.Precision.HIGHEST)
    return jnp.concatenate([table[:, :others], patches.reshape(1, grid[0] * grid[1], -1)], axis=1)


def bicubic_matrix(size: int, new_size: int, scale: float) -> Float[np.ndarray, "new_size size"]:
    """Weights that take `size` samples to `new_size` (`align_corners=False`, no antialias, edge samples repeated)."""
    position = (np.arange(new_size) + 0.5) / scale - 0.5
    first = np.floor(position).astype(int)
    matrix = np.zeros((new_size, size))
    for tap in range(-1, 3):
        column = np.clip(first + tap, 0, size - 1)
        np.add.at(matrix, (np.arange(new_size), column), _cubic_kernel(position - (first + tap)))
    return matrix.astype(np.float32)


def antialiased_bicubic_matrix(size: int, new_size: int) -> Float[np.ndarray, "new_size size"]:
    """The same with PyTorch's `antialias=True`: Pillow's kernel, which is as wide as a new sample and is cut off, and
    made to sum to 1, at the edges."""
    scale = size / new_size
    width = max(scale, 1.0)
    centre = (np.arange(new_size)[:, None] + 0.5) * scale
    weights = _cubic_kernel((np.arange(size) + 0.5 - centre) / width, PILLOW_CUBIC_A)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _cubic_kernel(distance: Float[np.ndarray, "*shape"], a: float = CUBIC_A) -> Float[np.ndarray, "*shape"]:
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
