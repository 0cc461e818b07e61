"""Zero-shot classification: the class whose prompts are most similar to the image embedding (paper, section 4.1)."""

import dataclasses

import numpy as np

from clippy_jax.datasets import image_folder
from clippy_jax.datasets.tars.wds_images import WdsImages
from clippy_jax.datasets.tfds import images as tfds_images
from clippy_jax.datasets.tfds.split import PREFIX as TFDS_PREFIX
from clippy_jax.errors import InputError
from clippy_jax.evaluators import image_pass, published
from clippy_jax.evaluators.classification import ClassificationResult, class_ranks, rank_counts, shares_right
from clippy_jax.evaluators.evaluator import Evaluator, Feeding
from clippy_jax.inference import Model
from clippy_jax.inference.label_maps import similarities

# Of the splits that published figures are of, since a folder's name does not tell.
PUBLISHED_IMAGES = {"ImageNet": 50_000, "ImageNet-v2": 10_000}
PUBLISHED_IMAGE_SIZE = 224


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShotResult(ClassificationResult):
    """By the prompts of the classes."""

    per_class_top1: dict[str, float | None]  # by class folder; None for a class without images
    data_set: str  # "ImageNet" or "ImageNet-v2", with the words that published numbers used; else ""

    def published(self):
        """Published figures are of whole validation sets at the training resolution."""
        images = self.images + len(self.unreadable)
        if self.image_size != PUBLISHED_IMAGE_SIZE or images != PUBLISHED_IMAGES.get(self.data_set):
            return ()
        if self.data_set == "ImageNet":
            return published.rows("classification", "ImageNet top-1", "ImageNet top-5")
        return [(who, top1, None) for who, top1 in published.rows("classification", "ImageNet-v2 top-1")]


class ZeroShotClassification(Evaluator):
    """Classifies labelled images.

    Args:
      source: an ImageNet-shaped tree (`image_folder.read`), `tfds:NAME[:split]`, or images that are listed already.
    """

    def __init__(self, source: str | WdsImages):
        if isinstance(source, WdsImages):
            self._images = source
        else:
            self._images = (tfds_images if source.startswith(TFDS_PREFIX) else image_folder).read(source)

    def measure(self, model: Model, feeding: Feeding) -> ZeroShotResult:
        """Top-1, top-5 and each class's own top-1."""
        images = self._images
        classes = model.class_embeddings(images.vocabulary.prompts(), feeding.progress)
        crops = image_pass.centre_crops(images.names, images.read, feeding, labels=1)

        def similarities_and_labels(pixels, labels):
            return similarities(model.encode_image(pixels)[1], classes), labels

        of_batches = []
        for numbers, (scores, labels) in crops.outputs(model, similarities_and_labels, "classification"):
            labelled = labels >= 0
            numbers, scores, labels = numbers[labelled], scores[labelled], labels[labelled]
            of_batches.append((numbers, labels, class_ranks(scores, labels)))
        numbers, labels, ranks = map(np.concatenate, zip(*of_batches))
        counted = len(numbers)
        if not counted:
            raise InputError(f"{images.folder} has no image with a label")
        images_of, top1_of = (np.bincount(of, minlength=len(classes)) for of in (labels, labels[ranks < 1]))
        top1, top5 = shares_right(ranks, (1, 5))
        return ZeroShotResult(
            task="zero-shot classification",
            folder=str(images.folder),
            protocol="mean of each class's prompt embeddings, 1 choice an image",
            split=images.split,
            resolution=image_pass.centre_crop_resolution(feeding.image_size),
            prompt_set=images.vocabulary.prompt_set,
            images=counted,
            unreadable=crops.unreadable,
            top1=top1,
            top5=top5,
            per_class_top1={
                name: float(right / of) if of else None
                for name, right, of in zip(images.class_folders, top1_of, images_of)
            },
            data_set=images.data_set,
            counts=rank_counts(images.folder, images.names, numbers, ranks),
        )
