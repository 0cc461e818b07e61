"""A label for every pixel of an image, how much of the image each covers, and how sure of it the model is."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt

STRIP_ROWS = 64  # pixels are named so many rows at a time, so that memory does not grow with the image's height


@dataclasses.dataclass(frozen=True)
class Segments:
    """The labels of an image's pixels.

    Attributes:
      labels: the index of the most similar class of every pixel; uint8 where that holds all indices.
      shares: of the image's pixels, by class; they add up to 1.
      confidences: the mean probability of a class over its pixels, by class; 0 where it has none.
    """

    labels: UInt[np.ndarray, "H W"]
    shares: Float[np.ndarray, "C"]
    confidences: Float[np.ndarray, "C"]

    def folded(self, class_of: Sequence[int]) -> "Segments":
        """The same with each class turned into another one; several may become one.

        Args:
          class_of: what each class becomes.
        """
        classes = max(class_of) + 1
        shares = np.bincount(class_of, weights=self.shares, minlength=classes)
        confidences = np.bincount(class_of, weights=self.shares * self.confidences, minlength=classes)
        labels = np.asarray(class_of, np.min_scalar_type(classes - 1))[self.labels]
        return Segments(labels, shares, np.divide(confidences, shares, out=np.zeros(classes), where=shares > 0))


def probabilities(similarities: Float[np.ndarray, "... C"], logit_scale: float) -> Float[np.ndarray, "... C"]:
    """The softmax over classes of cosines times the logit scale."""
    logits = logit_scale * similarities
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def name_pixels(similarities: Float[np.ndarray, "h w C"], logit_scale: float, height: int, width: int) -> Segments:
    """Names the pixels of an image of `height` by `width` by the similarities of its patches, stretched bilinearly.

    At the training resolution the labels are those of `Model.segment`.
    """
    grid_height, grid_width, classes = similarities.shape
    rows, columns = _bilinear(height, grid_height), _bilinear(width, grid_width)
    wide = similarities.transpose(2, 0, 1) @ columns.T
    labels = np.empty((height, width), np.min_scalar_type(classes - 1))
    pixels, confidence = np.zeros(classes), np.zeros(classes)
    for top in range(0, height, STRIP_ROWS):
        strip = rows[top : top + STRIP_ROWS] @ wide
        named, best = strip.argmax(axis=0), strip.max(axis=0)
        probability = 1 / np.exp(logit_scale * (strip - best)).sum(axis=0)
        labels[top : top + STRIP_ROWS] = named
        pixels += np.bincount(named.ravel(), minlength=classes)
        confidence += np.bincount(named.ravel(), weights=probability.ravel(), minlength=classes)
    return Segments(labels, pixels / (height * width), confidence / np.maximum(pixels, 1))


def _bilinear(length: int, patches: int) -> Float[np.ndarray, "length patches"]:
    """`label_maps.interpolation_weights` without a compilation, which every new size of an image would wait for."""
    position = np.clip((np.arange(length) + 0.5) * (patches / length) - 0.5, 0, patches - 1)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(patches))).astype(np.float32)
