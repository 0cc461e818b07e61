"""Classification by the nearest neighbours among frozen features, as DINO does it (Caron et al., 2021, section 4.1)."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from clippy_jax.datasets import train_and_val
from clippy_jax.evaluators import frozen_features
from clippy_jax.evaluators.frozen_features import FeatureClassificationResult
from clippy_jax.inference.encoder import Encoder

NEIGHBOURS = 20
TEMPERATURE = 0.07
QUERIES_PER_CALL = 512
# Similarities of this many training images at a time: the device holds no matrix of all with all.
KEYS_PER_STRIP = 16384


def evaluate(
    model: Encoder, folder: str, *, batch_size: int, image_size: int, progress: bool
) -> FeatureClassificationResult:
    """Classifies every image of `val` by its neighbours in `train`.

    Args:
      model: the model; its mesh shares out each batch.
      folder: a tree with `train` and `val` (`train_and_val.read`).
      batch_size: images a step, over all devices of all processes.
      image_size: pixels along each side that the images are resized and cropped to.
      progress: whether to show bars.

    Raises:
      InputError: the tree, the batch size or the image size does not fit, or more than 1 % of the images are
        unreadable.
    """
    started = time.perf_counter()
    tree = train_and_val.read(folder)
    train, val = (
        frozen_features.embed(model, images, batch_size, image_size, progress) for images in (tree.train, tree.val)
    )
    votes = neighbour_votes(val.vectors, train.vectors, train.labels, len(tree.class_folders))
    top1, top5 = frozen_features.shares_right(votes, val.labels, (1, 5))
    return FeatureClassificationResult(
        task="kNN classification",
        folder=str(tree.folder),
        protocol=f"{NEIGHBOURS} neighbours by cosine, weighted by exp(cosine / {TEMPERATURE})",
        split="val",
        resolution=f"{image_size}x{image_size}, short side resized, centre crop",
        prompt_set="none",
        pooling=model.config.pooling,
        images=len(val.labels),
        unreadable=train.unreadable + val.unreadable,
        seconds=time.perf_counter() - started,
        top1=top1,
        top5=top5,
        train_images=len(train.labels),
    )


def neighbour_votes(
    queries: Float[np.ndarray, "Q D"],
    keys: Float[np.ndarray, "K D"],
    labels: Int32[np.ndarray, "K"],
    number_of_classes: int,
) -> Float[np.ndarray, "Q C"]:
    """What the nearest keys of each query give to each class; queries and keys are unit vectors."""
    strip = min(KEYS_PER_STRIP, len(keys))
    padding = -len(keys) % strip
    keys = jnp.asarray(np.pad(keys, ((0, padding), (0, 0))).reshape(-1, strip, keys.shape[1]))
    labels = jnp.asarray(np.pad(labels, (0, padding), constant_values=-1).reshape(-1, strip))
    neighbours = min(NEIGHBOURS, labels.size - padding)
    votes = []
    for start in range(0, len(queries), QUERIES_PER_CALL):
        chunk = queries[start : start + QUERIES_PER_CALL]
        padded = np.pad(chunk, ((0, QUERIES_PER_CALL - len(chunk)), (0, 0)))
        votes.append(np.asarray(_votes(padded, keys, labels, neighbours, number_of_classes))[: len(chunk)])
    return np.concatenate(votes)


@functools.partial(jax.jit, static_argnames=("neighbours", "number_of_classes"))
def _votes(
    queries: Float[Array, "Q D"],
    keys: Float[Array, "strips S D"],
    labels: Int32[Array, "strips S"],
    neighbours: int,
    number_of_classes: int,
) -> Float[Array, "Q C"]:
    def nearer(best, strip):
        strip_keys, strip_labels = strip
        similarities = jnp.einsum("QD,SD->QS", queries, strip_keys, precision=jax.lax.Precision.HIGHEST)
        similarities = jnp.where(strip_labels >= 0, similarities, -jnp.inf)
        candidates = jnp.concatenate([best[0], similarities], axis=1)
        candidate_labels = jnp.concatenate([best[1], jnp.broadcast_to(strip_labels, similarities.shape)], axis=1)
        highest, position = jax.lax.top_k(candidates, neighbours)
        return (highest, jnp.take_along_axis(candidate_labels, position, axis=1)), None

    none = (
        jnp.full((len(queries), neighbours), -jnp.inf),
        jnp.full((len(queries), neighbours), -1, labels.dtype),
    )
    (similarities, nearest), _ = jax.lax.scan(nearer, none, (keys, labels))
    rows = jnp.arange(len(queries))[:, None]
    votes = jnp.zeros((len(queries), number_of_classes))
    return votes.at[rows, nearest].add(jnp.exp(similarities / TEMPERATURE))
