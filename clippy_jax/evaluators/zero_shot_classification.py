"""Zero-shot classification: the class whose prompts are most similar to the image embedding (paper, section 4.1)."""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jaxtyping import Array, Float, Int32

from clippy_jax.config import check_image_size
from clippy_jax.datasets import image_folder, tfds_images
from clippy_jax.errors import InputError
from clippy_jax.evaluators.result import Result
from clippy_jax.inference.encoder import Encoder
from clippy_jax.inference.prompts import class_embeddings
from clippy_jax.input_pipeline import evaluation_batches, evaluation_image
from clippy_jax.mesh import check_batch_size, replicated

NO_LABEL = -1


@dataclasses.dataclass(frozen=True)
class ClassificationResult(Result):
    """Shares of the images whose own class is the most similar one, or among the five most similar."""

    top1: float
    top5: float
    per_class_top1: dict[str, float | None]  # by class folder; None for a class without images
    data_set: str  # "ImageNet" or "ImageNet-v2", with the words that published numbers used; else ""

    def figures(self) -> dict[str, float]:
        """Top-1 and top-5."""
        return {"top1": self.top1, "top5": self.top5}


def read(source: str) -> image_folder.ImageFolder | tfds_images.TFDSImages:
    """Lists a folder-per-class tree or opens `tfds:NAME[:split]`; raises `InputError` as their readers do."""
    return tfds_images.read(source) if source.startswith(tfds_images.PREFIX) else image_folder.read(source)


def evaluate(model: Encoder, folder: str, *, batch_size: int, image_size: int, progress: bool) -> ClassificationResult:
    """Classifies every image of a folder-per-class tree or a TFDS data set.

    Args:
      model: the model; its mesh shares out each batch.
      folder: an ImageNet-shaped tree (`image_folder.read`), or `tfds:NAME[:split]` (`tfds_images.read`).
      batch_size: images a step, over all devices of all processes.
      image_size: pixels along each side that the images are resized and cropped to.
      progress: whether to show bars.

    Raises:
      InputError: the tree, the batch size or the image size does not fit, or more than 1 % of the images are
        unreadable.
    """
    started = time.perf_counter()
    check_image_size(image_size, model.config.image, "image_size")
    check_batch_size(batch_size, model.mesh, "batch_size")
    tree = read(folder)
    words = tree.vocabulary
    classes = class_embeddings(model, words.prompts(), progress)

    def read_sample(index: int) -> evaluation_batches.Sample:
        image, label = tree.read(index)
        return evaluation_image.centre_crop(image, image_size), np.array(label, np.int32)

    blank = (np.zeros((image_size, image_size, 3), np.uint8), np.array(NO_LABEL, np.int32))
    plan = evaluation_batches.split(range(len(tree.names)), batch_size, blank)
    failures = evaluation_batches.ReadFailures(tree.names, read_sample)
    counts = jax.device_put(np.zeros((len(words.names), 3), np.int32), replicated(model.mesh))
    with tqdm.tqdm(total=len(tree.names), desc="classification", unit="image", disable=not progress) as bar:
        for batch, (images, labels) in zip(
            plan, evaluation_batches.load(plan, read_sample, model.mesh, failures), strict=True
        ):
            _, pooled = model.encode_image(images)
            previous, counts = counts, _count(counts, pooled, classes, labels)
            previous.block_until_ready()
            bar.update(len(batch.rows) - batch.rows.count(evaluation_batches.PADDING))
    images_of, top1_of, top5_of = np.asarray(counts).astype(np.int64).T
    counted = int(images_of.sum())
    if not counted:
        raise InputError(f"{folder} has no image with a label")
    return ClassificationResult(
        task="zero-shot classification",
        folder=str(tree.folder),
        protocol="mean of each class's prompt embeddings, 1 choice an image",
        split=tree.split,
        resolution=f"{image_size}x{image_size}, short side resized, centre crop",
        prompt_set=words.prompt_set,
        pooling=model.config.pooling,
        images=counted,
        unreadable=failures.agree(),
        seconds=time.perf_counter() - started,
        top1=float(top1_of.sum() / counted),
        top5=float(top5_of.sum() / counted),
        per_class_top1={
            name: float(right / of) if of else None for name, right, of in zip(tree.class_folders, top1_of, images_of)
        },
        data_set=tree.data_set,
    )


@jax.jit
def _count(
    counts: Int32[Array, "C 3"], pooled: Float[Array, "B D"], classes: Float[Array, "C D"], labels: Int32[Array, "B"]
) -> Int32[Array, "C 3"]:
    """Adds each labelled image to its class's row: images, right at first, right among five.

    An image's rank is the number of classes before its own by similarity, the lower index first among equals. It comes
    from those behind, of which a model that returns NaN has none: such a model is never right.
    """
    similarities = jnp.einsum("bd,cd->bc", pooled, classes, precision=jax.lax.Precision.HIGHEST)
    own = jnp.take_along_axis(similarities, jnp.maximum(labels, 0)[:, None], axis=1)
    later = jnp.arange(classes.shape[0]) > labels[:, None]
    behind = ((similarities < own) | ((similarities == own) & later)).sum(axis=1)
    rank = classes.shape[0] - 1 - behind
    labelled = labels != NO_LABEL
    added = jnp.stack([labelled, labelled & (rank < 1), labelled & (rank < 5)], axis=1).astype(jnp.int32)
    return counts.at[jnp.maximum(labels, 0)].add(added)
