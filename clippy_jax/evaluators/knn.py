"""Classification by the nearest neighbours among frozen features, as DINO does it (Caron et al., 2021, section 4.1)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from clippy_jax.evaluators.frozen_features import FeatureClassification
from clippy_jax.inference.label_maps import similarities

NEIGHBOURS = 20
TEMPERATURE = 0.07
QUERIES_PER_CALL = 512
# Similarities of this many training images at a time: the device holds no matrix of all with all.
KEYS_PER_STRIP = 16384


class NearestNeighbours(FeatureClassification):
    """The classes of the nearest images of `train`."""

    task = "kNN classification"

    def classify(self, train, val, number_of_classes):
        """The neighbours' votes."""
        protocol = f"{NEIGHBOURS} neighbours by cosine, weighted by exp(cosine / {TEMPERATURE})"
        return neighbour_votes(val, train.vectors, train.labels, number_of_classes), protocol


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
        cosines = jnp.where(strip_labels >= 0, similarities(queries, strip_keys), -jnp.inf)
        candidates = jnp.concatenate([best[0], cosines], axis=1)
        candidate_labels = jnp.concatenate([best[1], jnp.broadcast_to(strip_labels, cosines.shape)], axis=1)
        highest, position = jax.lax.top_k(candidates, neighbours)
        return (highest, jnp.take_along_axis(candidate_labels, position, axis=1)), None

    none = (
        jnp.full((len(queries), neighbours), -jnp.inf),
        jnp.full((len(queries), neighbours), -1, labels.dtype),
    )
    (cosines, nearest), _ = jax.lax.scan(nearer, none, (keys, labels))
    rows = jnp.arange(len(queries))[:, None]
    votes = jnp.zeros((len(queries), number_of_classes))
    return votes.at[rows, nearest].add(jnp.exp(cosines / TEMPERATURE))
