"""Which class was predicted where which was labelled, and what follows from it."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Int32, Int64, UInt8

from clippy_jax.datasets.vocabulary import IGNORED_LABEL
from clippy_jax.inference import label_maps, pamr, sliding_window
from clippy_jax.inference.background import Decision
from clippy_jax.inference.sliding_window import Side
from clippy_jax.models.clippy import normalise_pixels


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


class How(NamedTuple):
    """What is compiled into the counting."""

    sides: tuple[Side, Side]
    decision: Decision
    classes: int
    probability_scale: float  # of the softmax before windows are averaged; 0 for none
    refinements: int


@functools.partial(jax.jit, static_argnames=("how", "mesh"))
def count(
    scores: Float[Array, "B R C P"],
    pixels: UInt8[Array, "B h w 3"],
    fed_sizes: Int[Array, "B 2"],
    labels: UInt8[Array, "B H W"],
    sizes: Int[Array, "B 2"],
    how: How,
    mesh: Mesh,
) -> tuple[Int32[Array, "C C"], Int32[Array, "B 3 C"]]:
    """The confusion matrix of all labelled pixels of a batch, and each image's intersection, union and labelled pixels.

    Counted one image at a time on each device.
    """

    def count_image(image) -> Int32[Array, "C C"]:
        scores, pixels, fed, labels, size = image
        if how.probability_scale:
            strips = sliding_window.probability_strips(
                scores, fed, how.sides, how.probability_scale, size, labels.shape
            )
        else:
            weights = (side.weights(fed[axis], size[axis], labels.shape[axis]) for axis, side in enumerate(how.sides))
            strips = label_maps.stretched(scores, *weights)
        if how.refinements:
            weights = pamr.affinities(_stretched_image(pixels, fed, size, labels.shape), size)
            refine = functools.partial(pamr.refine, weights=weights, size=size, iterations=how.refinements)
            predicted = label_maps.refined_label_map(strips, refine, labels.shape, size, how.decision)
        else:
            predicted = label_maps.label_map(strips, labels.shape, size, how.decision)
        return confusion_matrix(labels, predicted, how.classes)

    def count_shard(*shard):
        confusions = jax.lax.map(count_image, shard)
        intersection = jnp.diagonal(confusions, axis1=1, axis2=2)
        labelled, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
        of_images = jnp.stack([intersection, labelled + predicted - intersection, labelled], axis=1)
        return jax.lax.psum(confusions.sum(axis=0), "data"), of_images

    split, whole = PartitionSpec("data"), PartitionSpec()
    count_batch = jax.shard_map(count_shard, mesh=mesh, in_specs=(split,) * 5, out_specs=(whole, split))
    return count_batch(scores, pixels, fed_sizes, labels, sizes)


def _stretched_image(
    pixels: UInt8[Array, "h w 3"], fed: Int[Array, "2"], size: Int[Array, "2"], padded: tuple[int, int]
) -> Float[Array, "H W 3"]:
    """The image as the model sees it, stretched from the size it is fed at."""
    rows, columns = (
        label_maps.interpolation_weights(size[axis], padded[axis], fed[axis], pixels.shape[axis]) for axis in range(2)
    )
    wide = jnp.einsum("Ww,hwc->hWc", columns, normalise_pixels(pixels), precision=label_maps.HIGHEST)
    return jnp.einsum("Hh,hWc->HWc", rows, wide, precision=label_maps.HIGHEST)
