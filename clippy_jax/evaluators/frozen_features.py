"""Pooled embeddings of a whole data set, for classifiers that learn on them while the model stays as it is."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tqdm
from jax.experimental import multihost_utils
from jaxtyping import Float, Int32

from clippy_jax.config import check_image_size
from clippy_jax.datasets import image_file, train_and_val
from clippy_jax.evaluators.result import Result
from clippy_jax.inference.encoder import Encoder
from clippy_jax.input_pipeline import evaluation_batches, evaluation_image
from clippy_jax.mesh import check_batch_size


@dataclasses.dataclass(frozen=True)
class FeatureClassificationResult(Result):
    """Shares of the images whose own class is the first choice, or among the first five."""

    top1: float
    top5: float
    train_images: int  # that were learned from

    def figures(self) -> dict[str, float]:
        """Top-1 and top-5."""
        return {"top1": self.top1, "top5": self.top5}


@dataclasses.dataclass(frozen=True)
class Features:
    """Unit vectors with the class of each, in host memory: 3 KB an image at a width of 768."""

    vectors: Float[np.ndarray, "I D"]
    labels: Int32[np.ndarray, "I"]
    unreadable: tuple[str, ...]  # images that could not be read and are not among them


def embed(
    model: Encoder, images: train_and_val.LabelledImages, batch_size: int, image_size: int, progress: bool
) -> Features:
    """The pooled embedding of every image, the same in all processes.

    Raises:
      InputError: the batch size or the image size does not fit, or more than 1 % of the images are unreadable.
    """
    check_image_size(image_size, model.config.image, "image_size")
    check_batch_size(batch_size, model.mesh, "batch_size")

    def read(index: int) -> evaluation_batches.Sample:
        image = image_file.open_image(images.paths[index])
        return evaluation_image.centre_crop(image, image_size), np.array(index, np.int32)

    blank = (np.zeros((image_size, image_size, 3), np.uint8), np.array(evaluation_batches.PADDING, np.int32))
    plan = evaluation_batches.split(range(len(images.paths)), batch_size, blank)
    failures = evaluation_batches.ReadFailures(images.paths, read)
    vectors, indices = [], []
    with tqdm.tqdm(total=len(images.paths), desc="features", unit="image", disable=not progress) as bar:
        for batch, (pixels, numbers) in zip(
            plan, evaluation_batches.load(plan, read, model.mesh, failures), strict=True
        ):
            _, pooled = model.encode_image(pixels)
            vectors.append(multihost_utils.process_allgather(pooled, tiled=True))
            indices.append(multihost_utils.process_allgather(numbers, tiled=True))
            bar.update(len(batch.rows) - batch.rows.count(evaluation_batches.PADDING))
    vectors, indices = np.concatenate(vectors), np.concatenate(indices)
    counted = indices != evaluation_batches.PADDING
    return Features(vectors[counted], images.labels[indices[counted]], failures.agree())


def shares_right(
    scores: Float[np.ndarray, "I C"], labels: Int32[np.ndarray, "I"], choices: Sequence[int]
) -> list[float]:
    """For each number of choices, the share of rows whose label is among the highest scores.

    Among equals the lower class comes first. A score of NaN is never right.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    later = np.arange(scores.shape[1]) > labels[:, None]
    rank = scores.shape[1] - 1 - ((scores < own) | ((scores == own) & later)).sum(axis=1)
    return [float((rank < number).mean()) for number in choices]
