"""Which class was predicted where which was labelled, and what follows from it."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Int64, UInt8

from clippy_jax.datasets.vocabulary import IGNORED_LABEL


def confusion_matrix(
    labels: UInt8[Array, "H W"], predicted: Int32[Array, "H W"], number_of_classes: int
) -> Int32[Array, "C C"]:
    """Pixels by label (row) and prediction (column); labels of 255 are not counted."""
    cells = labels.astype(jnp.int32) * number_of_classes + predicted
    beyond = number_of_classes**2
    cells = jnp.where(labels == IGNORED_LABEL, beyond, cells)
    return jnp.bincount(cells.ravel(), length=beyond + 1)[:beyond].reshape(number_of_classes, number_of_classes)


def intersection_over_union(
    confusion: Int64[np.ndarray, "C C"], without_pixels: float, eps: float = 0.0
) -> Float[np.ndarray, "C"]:
    """The IoU of each class.

    Args:
      confusion: pixels by label and prediction.
      without_pixels: the IoU of a class that neither occurs nor is predicted.
      eps: added to the union.
    """
    intersection = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - intersection
    return np.divide(intersection, union + eps, out=np.full_like(intersection, without_pixels), where=union > 0)
