"""Zero-shot classification: the class whose prompts are most similar to the image embedding (paper, section 4.1)."""

import dataclasses

import numpy as np

from clippy_jax.datasets import image_folder
from clippy_jax.datasets.tfds import images as tfds_images
from clippy_jax.errors import InputError
from clippy_jax.evaluators import image_pass
from clippy_jax.evaluators.class_ranks import class_ranks, rank_counts, shares_right
from clippy_jax.evaluators.evaluator import Evaluator, Feeding
from clippy_jax.evaluators.result import THIS, Result, markdown
from clippy_jax.inference import Model
from clippy_jax.inference.label_maps import similarities

# Number of images of the split that published numbers are of, since a folder's name does not tell; (who, top-1, top-5)
PUBLISHED = {
    ("ImageNet", 50_000): (
        ("public notebook, clippy_5k.pt", 44.976, 72.826),
        ("paper, CC-12M", 45.3, None),
        ("paper, HQITP-134M", 60.3, None),
        ("paper, its CLIP baseline, CC-12M", 46.0, None),
    ),
    ("ImageNet-v2", 10_000): (
        ("paper, CC-12M", 40.0, None),
        ("paper, HQITP-134M", 54.8, None),
        ("paper, its CLIP baseline, CC-12M", 40.3, None),
    ),
}
PUBLISHED_IMAGE_SIZE = 224


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationResult(Result):
    """Shares of the images whose own class is the most similar one, or among the five most similar."""

    top1: float
    top5: float
    per_class_top1: dict[str, float | None]  # by class folder; None for a class without images
    data_set: str  # "ImageNet" or "ImageNet-v2", with the words that published numbers used; else ""

    def figures(self) -> dict[str, float]:
        """Top-1 and top-5."""
        return {"top1": self.top1, "top5": self.top5}

    def tables(self) -> list[str]:
        """One table; published numbers are of whole validation sets at the training resolution."""
        rows = [(THIS, self.cell("top1"), self.cell("top5"))]
        if self.image_size == PUBLISHED_IMAGE_SIZE:
            rows += PUBLISHED.get((self.data_set, self.images + len(self.unreadable)), ())
        return [markdown((self.task, "top-1", "top-5"), rows)]


class ZeroShotClassification(Evaluator):
    """Classifies every image of an ImageNet-shaped tree (`image_folder.read`) or of `tfds:NAME[:split]`."""

    def __init__(self, source: str):
        is_tfds = source.startswith(tfds_images.PREFIX)
        self._images = tfds_images.read(source) if is_tfds else image_folder.read(source)

    def measure(self, model: Model, feeding: Feeding) -> ClassificationResult:
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
        return ClassificationResult(
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
