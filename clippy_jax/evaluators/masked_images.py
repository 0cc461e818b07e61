"""Images with a mask each, in batches of those that are fed at one size and have labels of about one size."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from clippy_jax.datasets.vocabulary import IGNORED_LABEL
from clippy_jax.evaluators.evaluator import Feeding
from clippy_jax.evaluators.image_pass import ImagePass
from clippy_jax.inference import label_maps
from clippy_jax.input_pipeline.evaluation_batches import Sample

Size = tuple[int, int]  # width and height in pixels


def masked_images(
    names: Sequence,
    sizes: Sequence[Size | None],
    feed_at: Callable[[Size], tuple[Size, Size]],
    read: Callable[[int], tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "H W"]]],
    feeding: Feeding,
) -> ImagePass:
    """All images as (pixels, labels, height and width of the labels, of the pixels); labels are padded with 255.

    Args:
      names: of the images.
      sizes: of the images and their masks; None for an image that cannot be read.
      feed_at: of an image of some size, the sizes that its pixels are padded to, with black at the lower right, and of
        its labels as they are compared.
      read: those pixels and labels.
      feeding: how many at a time.
    """

    def read_sized(index: int) -> Sample:
        pixels, labels = read(index)
        return pixels, labels, *(np.array(array.shape[:2], np.int32) for array in (labels, pixels))

    alike: dict[tuple[Size, Size], dict[int, Size]] = {}  # image → size of its labels
    for index, size in enumerate(sizes):
        if size is not None:
            fed, labels = feed_at(size)
            # All labels of a batch are padded to its largest, so that they may differ twofold at most.
            about = tuple((length - 1).bit_length() for length in labels)
            alike.setdefault((fed, about), {})[index] = labels
    groups = []
    for ((width, height), _), of_images in alike.items():
        columns, rows = (label_maps.padded_length(max(lengths)) for lengths in zip(*of_images.values()))
        pixels = np.zeros((height, width, 3), np.uint8)
        labels = np.full((rows, columns), IGNORED_LABEL, np.uint8)
        groups.append((list(of_images), (pixels, labels, np.ones(2, np.int32), np.array([height, width], np.int32))))
    unreadable = [index for index, size in enumerate(sizes) if size is None]
    return ImagePass(names, read_sized, groups, feeding, unreadable)
