"""Classifiers that learn on a data set's pooled embeddings while the model stays as it is."""

import abc
import dataclasses

import numpy as np
from jaxtyping import Float, Int32

from clippy_jax.datasets import image_file, image_folder
from clippy_jax.evaluators import image_pass
from clippy_jax.evaluators.classification import ClassificationResult, class_ranks, rank_counts, shares_right
from clippy_jax.evaluators.evaluator import Evaluator, Feeding
from clippy_jax.inference import Model


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureClassificationResult(ClassificationResult):
    """Of a classifier that learned from images."""

    train_images: int  # that were learned from


@dataclasses.dataclass(frozen=True)
class Features:
    """Unit vectors with the class of each, in host memory: 3 KB an image at a width of 768."""

    vectors: Float[np.ndarray, "I D"]
    labels: Int32[np.ndarray, "I"]
    numbers: Int32[np.ndarray, "I"]  # of the images among all
    unreadable: tuple[str, ...]  # images that could not be read and are not among them


def embed(model: Model, images: image_folder.LabelledImages, feeding: Feeding) -> Features:
    """The pooled embedding of every image, the same in all processes."""
    crops = image_pass.centre_crops(images.paths, lambda i: (image_file.open_image(images.paths[i]),), feeding)
    numbers, vectors = crops.per_image(model, lambda pixels: model.encode_image(pixels)[1], "features")
    return Features(vectors, images.labels[numbers], numbers, crops.unreadable)


class FeatureClassification(Evaluator):
    """Learns from the images of `train` and classifies those of `val` (`image_folder.read_train_and_val`)."""

    task: str

    def __init__(self, folder: str):
        self._tree = image_folder.read_train_and_val(folder)

    @abc.abstractmethod
    def classify(
        self, train: Features, val: Float[np.ndarray, "I D"], number_of_classes: int
    ) -> tuple[Float[np.ndarray, "I C"], str]:
        """What speaks for each class of each image of `val`, and the protocol in words."""

    def measure(self, model: Model, feeding: Feeding) -> FeatureClassificationResult:
        """Top-1 and top-5 on `val`."""
        train, val = (embed(model, images, feeding) for images in (self._tree.train, self._tree.val))
        scores, protocol = self.classify(train, val.vectors, len(self._tree.class_folders))
        ranks = class_ranks(scores, val.labels)
        top1, top5 = shares_right(ranks, (1, 5))
        return FeatureClassificationResult(
            task=self.task,
            folder=str(self._tree.folder),
            protocol=protocol,
            split="val",
            resolution=image_pass.centre_crop_resolution(feeding.image_size),
            prompt_set="none",
            images=len(val.labels),
            unreadable=train.unreadable + val.unreadable,
            top1=top1,
            top5=top5,
            train_images=len(train.labels),
            counts=rank_counts(self._tree.folder, self._tree.val.paths, val.numbers, ranks),
        )
