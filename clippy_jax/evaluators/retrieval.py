"""Retrieval: does an image find its captions among all, and a caption its image?

The rank of a query is the place of the best of its own answers among all answers, from 1. An answer that is not its own
and just as similar counts as being in front, so equal embeddings never help: a model that embeds everything alike has
the worst rank. Similarities are made in chunks of queries; the matrix of all of them never exists.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32, Shaped

from clippy_jax.datasets import retrieval_pairs
from clippy_jax.evaluators import image_pass
from clippy_jax.evaluators.evaluator import Evaluator, Feeding, Flag
from clippy_jax.evaluators.intervals import Counts, Ratio
from clippy_jax.evaluators.result import Result, markdown
from clippy_jax.inference import Model
from clippy_jax.inference.label_maps import similarities

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrievalResult(Result):
    """Retrieval in both directions."""

    captions: int
    image_to_text: Ranks
    text_to_image: Ranks

    @property
    def directions(self) -> dict[str, Ranks]:
        """Both, by name."""
        return {"image_to_text": self.image_to_text, "text_to_image": self.text_to_image}

    def figures(self) -> dict[str, float]:
        """Recall in both directions."""
        ranks = self.directions.items()
        return {f"{name}_recall_{k}": of.recall[str(k)] for name, of in ranks for k in RECALL_AT}

    def tables(self) -> list[str]:
        """A row for each direction."""
        rows = []
        for name, of in self.directions.items():
            recalls = (self.cell(f"{name}_recall_{k}") for k in RECALL_AT)
            rows.append((name.replace("_", " "), *recalls, of.mean_rank, of.median_rank))
        return [markdown((self.task, *(f"R@{k}" for k in RECALL_AT), "mean rank", "median rank"), rows)]


class Retrieval(Evaluator):
    """Ranks all captions for every image and all images for every caption.

    Args:
      source: a table, tar shards, a Karpathy JSON or a TFDS name (`retrieval_pairs.read`).
      split: of a Karpathy JSON or a TFDS name.
    """

    flags = (Flag("retrieval_split", "split", str, "of a Karpathy JSON or tfds:NAME; test by default"),)

    def __init__(self, source: str, split: str = "test"):
        self._pairs = retrieval_pairs.read(source, split)

    def measure(self, model: Model, feeding: Feeding) -> RetrievalResult:
        """Recall and ranks in both directions, over the images that can be read."""
        pairs = self._pairs
        crops = image_pass.centre_crops(pairs.images, lambda index: (pairs.open_image(index),), feeding)
        images, image_embeddings = crops.per_image(model, lambda pixels: model.encode_image(pixels)[1], "retrieval")
        counted = np.isin(pairs.image_of_caption, images)
        image_of_caption = pairs.image_of_caption[counted]
        captions = [caption for caption, counts in zip(pairs.captions, counted) if counts]
        text_embeddings = model.class_embeddings([[caption] for caption in captions], feeding.progress)
        image_ranks = ranks(image_embeddings, images, text_embeddings, image_of_caption)
        text_ranks = ranks(text_embeddings, image_of_caption, image_embeddings, images)
        of, ratios = {}, {}
        for name, of_image, found in (
            ("image_to_text", images, image_ranks),
            ("text_to_image", image_of_caption, text_ranks),
        ):
            of[name] = _per_image(images, of_image, np.ones_like(found))
            for k in RECALL_AT:
                of[f"{name}_recall_{k}"] = _per_image(images, of_image, found <= k)
                ratios[f"{name}_recall_{k}"] = Ratio(f"{name}_recall_{k}", name)
        return RetrievalResult(
            task="retrieval",
            folder=pairs.source,
            protocol=PROTOCOL,
            split=pairs.split,
            resolution=image_pass.centre_crop_resolution(feeding.image_size),
            prompt_set=f"{len(captions)} captions as they are",
            images=len(images),
            unreadable=crops.unreadable,
            captions=len(captions),
            image_to_text=summary(image_ranks),
            text_to_image=summary(text_ranks),
            counts=Counts.of_images(pathlib.Path(pairs.source).parent, pairs.images, images, of, ratios),
        )


def _per_image(
    images: Int32[np.ndarray, "I"], image_of_query: Int32[np.ndarray, "Q"], counted: Shaped[np.ndarray, "Q"]
) -> Int[np.ndarray, "I"]:
    """What the queries of each image come to; queries of one image are drawn together."""
    return np.bincount(image_of_query, counted, minlength=images.max() + 1)[images].astype(np.int16)


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
    cosines = similarities(queries, answers)
    best = jnp.where(own, cosines, -jnp.inf).max(axis=1, keepdims=True)
    # Written so that NaN, which is never less, stands in front.
    return 1 + (~own & ~(cosines < best)).sum(axis=1, dtype=jnp.int32)
