"""Retrieval: does an image find its captions among all, and a caption its image?

The rank of a query is the place of the best of its own answers among all answers, from 1. An answer that is not its own
and just as similar counts as being in front, so equal embeddings never help: a model that embeds everything alike has
the worst rank. Similarities are made in chunks of queries; the matrix of all of them never exists.
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jaxtyping import Array, Bool, Float, Int32

from clippy_jax.config import check_image_size
from clippy_jax.datasets import retrieval_pairs
from clippy_jax.evaluators.result import Result
from clippy_jax.inference.encoder import Encoder
from clippy_jax.inference.label_maps import HIGHEST
from clippy_jax.inference.prompts import class_embeddings
from clippy_jax.input_pipeline import evaluation_batches, evaluation_image
from clippy_jax.mesh import check_batch_size, replicated

RECALL_AT = (1, 5, 10)
SIMILARITIES_AT_ONCE = 2**24  # 64 MiB
PROTOCOL = (
    f"rank of the best own answer among all, equals in front; at most {retrieval_pairs.CAPTIONS_PER_IMAGE} captions an "
    "image"
)


@dataclasses.dataclass(frozen=True)
class Ranks:
    """What the ranks of all queries come to."""

    recall: dict[str, float]  # by k: the share of queries with a rank of at most k
    mean_rank: float
    median_rank: float


@dataclasses.dataclass(frozen=True)
class RetrievalResult(Result):
    """Retrieval in both directions."""

    captions: int
    image_to_text: Ranks
    text_to_image: Ranks

    def figures(self) -> dict[str, float]:
        """Recall in both directions."""
        directions = {"image_to_text": self.image_to_text, "text_to_image": self.text_to_image}
        return {f"{name}_recall_{k}": ranks.recall[str(k)] for name, ranks in directions.items() for k in RECALL_AT}


def evaluate(
    model: Encoder, source: str, *, split: str = "test", batch_size: int, image_size: int, progress: bool
) -> RetrievalResult:
    """Ranks all captions for every image and all images for every caption.

    Args:
      model: the model; its mesh shares out each batch.
      source: a table, tar shards or a Karpathy JSON (`retrieval_pairs.read`).
      split: of a Karpathy JSON.
      batch_size: images a step, over all devices of all processes.
      image_size: pixels along each side that the images are resized and cropped to.
      progress: whether to show bars.

    Raises:
      InputError: the source, the batch size or the image size does not fit, or more than 1 % of the images are
        unreadable.
    """
    started = time.perf_counter()
    check_image_size(image_size, model.config.image, "image_size")
    check_batch_size(batch_size, model.mesh, "batch_size")
    pairs = retrieval_pairs.read(source, split)

    def read(index: int) -> evaluation_batches.Sample:
        return (evaluation_image.centre_crop(pairs.open_image(index), image_size),)

    plan = evaluation_batches.split(
        range(len(pairs.images)), batch_size, (np.zeros((image_size, image_size, 3), np.uint8),)
    )
    failures = evaluation_batches.ReadFailures(pairs.images, read)
    gather = jax.jit(lambda pooled: pooled, out_shardings=replicated(model.mesh))
    embeddings = []
    with tqdm.tqdm(total=len(pairs.images), desc="retrieval", unit="image", disable=not progress) as bar:
        for batch, (images,) in zip(plan, evaluation_batches.load(plan, read, model.mesh, failures), strict=True):
            _, pooled = model.encode_image(images)
            embeddings.append(np.asarray(gather(pooled)))
            bar.update(len(batch.rows) - batch.rows.count(evaluation_batches.PADDING))
    unreadable = failures.agree()
    readable = np.array([str(path) not in unreadable for path in pairs.images])
    counted = readable[pairs.image_of_caption]
    captions = [caption for caption, counts in zip(pairs.captions, counted) if counts]
    image_embeddings = np.concatenate(embeddings)[: len(pairs.images)][readable]
    text_embeddings = class_embeddings(model, [[caption] for caption in captions], progress)
    images = np.flatnonzero(readable)
    image_of_caption = pairs.image_of_caption[counted]
    return RetrievalResult(
        task="retrieval",
        folder=source,
        protocol=PROTOCOL,
        split=pairs.split,
        resolution=f"{image_size}x{image_size}, short side resized, centre crop",
        prompt_set=f"{len(captions)} captions as they are",
        pooling=model.config.pooling,
        images=len(images),
        unreadable=unreadable,
        seconds=time.perf_counter() - started,
        captions=len(captions),
        image_to_text=summary(ranks(image_embeddings, images, text_embeddings, image_of_caption)),
        text_to_image=summary(ranks(text_embeddings, image_of_caption, image_embeddings, images)),
    )


def summary(ranks: Int32[np.ndarray, "Q"]) -> Ranks:
    """Recall, mean and median of the ranks of all queries."""
    recall = {str(k): float(np.mean(ranks <= k)) for k in RECALL_AT}
    return Ranks(recall, float(np.mean(ranks)), float(np.median(ranks)))


def ranks(
    queries: Float[np.ndarray, "Q D"],
    query_groups: Int32[np.ndarray, "Q"],
    answers: Float[np.ndarray, "A D"],
    answer_groups: Int32[np.ndarray, "A"],
) -> Int32[np.ndarray, "Q"]:
    """The rank of the best answer of each query's own group among all answers, from 1, equals in front.

    Args:
      queries: their embeddings.
      query_groups: which group each belongs to; an answer of the same group is there for each.
      answers: their embeddings.
      answer_groups: which group each belongs to.
    """
    chunk = min(len(queries), max(1, SIMILARITIES_AT_ONCE // len(answers)))
    answers = jnp.asarray(answers)
    found = []
    for start in range(0, len(queries), chunk):
        # The last chunk starts earlier instead of being smaller: one compiled function serves all.
        begin = min(start, len(queries) - chunk)
        own = query_groups[begin : begin + chunk, None] == answer_groups
        found.append(np.asarray(_rank(queries[begin : begin + chunk], answers, own))[start - begin :])
    return np.concatenate(found)


@jax.jit
def _rank(queries: Float[Array, "Q D"], answers: Float[Array, "A D"], own: Bool[Array, "Q A"]) -> Int32[Array, "Q"]:
    similarities = jnp.einsum("qd,ad->qa", queries, answers, precision=HIGHEST)
    best = jnp.where(own, similarities, -jnp.inf).max(axis=1, keepdims=True)
    # Written so that NaN, which is never less, stands in front.
    return 1 + (~own & ~(similarities < best)).sum(axis=1, dtype=jnp.int32)
