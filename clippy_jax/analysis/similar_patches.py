"""The patch under a point of an image, and the patches that are like it."""

import numpy as np
from jaxtyping import Float


def patch_at(point: tuple[float, float], grid: tuple[int, int]) -> tuple[int, int]:
    """Row and column of the patch under a point.

    Args:
      point: x and y as shares of the image's width and height, from 0 to 1.
      grid: rows and columns of patches.
    """
    x, y = point
    row, column = (min(max(int(share * count), 0), count - 1) for share, count in zip((y, x), grid))
    return row, column


def similarity_to_patch(patches: Float[np.ndarray, "h w D"], patch: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """The cosine of every patch with the one at a row and column; patches come L2-normalised."""
    return patches @ patches[patch]
