"""Waterbirds: does the background decide what a model calls a bird? (data: Sagawa et al., 2020)

Each photo is classified without training, as waterbird or landbird (`two-way`) or also as background (`three-way`, the
paper's, at 448 pixels). A bird's *domain gap* is its accuracy on its own place minus that on the other's.
"""

import dataclasses
import time
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jaxtyping import Array, Float, Int32

from clippy_jax.config import check_image_size
from clippy_jax.datasets import image_file, vocabulary, waterbirds_tree
from clippy_jax.evaluators.result import Result
from clippy_jax.inference.encoder import Encoder
from clippy_jax.inference.prompts import class_embeddings
from clippy_jax.input_pipeline import evaluation_batches, evaluation_image
from clippy_jax.mesh import check_batch_size, replicated

Choices = Literal["two-way", "three-way"]
NO_BIRD = -1


@dataclasses.dataclass(frozen=True)
class Cell:
    """One bird in one place."""

    bird: str
    place: str
    own_place: bool
    images: int
    right: int
    accuracy: float | None  # None where there is no image


@dataclasses.dataclass(frozen=True)
class WaterbirdsResult(Result):
    """Accuracy by bird and place."""

    average: float  # over all images
    worst_group: float  # the lowest accuracy of a cell
    domain_gap: dict[str, float | None]  # by bird; None where one of its cells has no image
    cells: tuple[Cell, ...]  # a bird's own place before the other
    image_size: int  # pixels along each side
    published_comparable: bool  # the choices, the words and the split of published numbers

    def figures(self) -> dict[str, float]:
        """The average, the worst group and each bird's gap."""
        gaps = {f"gap_{bird}": gap for bird, gap in self.domain_gap.items() if gap is not None}
        return {"average": self.average, "worst_group": self.worst_group, **gaps}


def evaluate(
    model: Encoder,
    folder: str,
    *,
    choices: Choices = "three-way",
    split: str = "test",
    batch_size: int,
    image_size: int,
    progress: bool,
) -> WaterbirdsResult:
    """Classifies every photo of a split of a Waterbirds tree.

    Args:
      model: the model; its mesh shares out each batch.
      folder: the tree (`waterbirds_tree.read`).
      choices: `two-way` or `three-way`, see the module's text.
      split: `train`, `val` or `test`.
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
    tree = waterbirds_tree.read(folder, split)
    words = tree.vocabulary
    names = words.birds if choices == "two-way" else (*words.birds, words.background)
    classes = class_embeddings(model, vocabulary.fill_in(words.templates, names), progress)

    def read(index: int) -> evaluation_batches.Sample:
        image = image_file.open_image(tree.paths[index])
        return evaluation_image.centre_crop(image, image_size), tree.birds[index], tree.places[index]

    no_bird = np.array(NO_BIRD, np.int32)
    blank = (np.zeros((image_size, image_size, 3), np.uint8), no_bird, no_bird)
    plan = evaluation_batches.split(range(len(tree.paths)), batch_size, blank)
    failures = evaluation_batches.ReadFailures(tree.paths, read)
    counts = jax.device_put(np.zeros((len(words.birds), len(words.places), 2), np.int32), replicated(model.mesh))
    with tqdm.tqdm(total=len(tree.paths), desc="waterbirds", unit="image", disable=not progress) as bar:
        loaded = evaluation_batches.load(plan, read, model.mesh, failures)
        for batch, (images, birds, places) in zip(plan, loaded, strict=True):
            _, pooled = model.encode_image(images)
            previous, counts = counts, _count(counts, pooled, classes, birds, places)
            previous.block_until_ready()
            bar.update(len(batch.rows) - batch.rows.count(evaluation_batches.PADDING))
    cells = _cells(np.asarray(counts), words)
    images = sum(cell.images for cell in cells)
    return WaterbirdsResult(
        task="Waterbirds",
        folder=str(tree.folder),
        protocol=f"{choices}: {', '.join(names)}",
        split=split,
        resolution=f"{image_size}x{image_size}, short side resized, centre crop",
        prompt_set=words.prompt_set,
        pooling=model.config.pooling,
        images=images,
        unreadable=failures.agree(),
        seconds=time.perf_counter() - started,
        average=sum(cell.right for cell in cells) / images,
        worst_group=min(cell.accuracy for cell in cells if cell.images),
        domain_gap={own.bird: _gap(own, other) for own, other in zip(cells[::2], cells[1::2])},
        cells=cells,
        image_size=image_size,
        published_comparable=words.is_waterbirds and choices == "three-way" and split == "test",
    )


def _cells(counts: Int32[np.ndarray, "2 2 2"], words: vocabulary.WaterbirdsVocabulary) -> tuple[Cell, ...]:
    cells = []
    for bird, place in ((0, 0), (0, 1), (1, 1), (1, 0)):
        images, right = counts[bird, place].tolist()
        accuracy = right / images if images else None
        cells.append(Cell(words.birds[bird], words.places[place], place == bird, images, right, accuracy))
    return tuple(cells)


def _gap(own: Cell, other: Cell) -> float | None:
    return own.accuracy - other.accuracy if own.images and other.images else None


@jax.jit
def _count(
    counts: Int32[Array, "2 2 2"],
    pooled: Float[Array, "B D"],
    classes: Float[Array, "C D"],
    birds: Int32[Array, "B"],
    places: Int32[Array, "B"],
) -> Int32[Array, "2 2 2"]:
    """Adds each photo to the cell of its bird and place: images, right ones.

    An answer is right if no other choice is at least as similar; a model that returns NaN is never right.
    """
    similarities = jnp.einsum("bd,cd->bc", pooled, classes, precision=jax.lax.Precision.HIGHEST)
    own = jnp.take_along_axis(similarities, jnp.maximum(birds, 0)[:, None], axis=1)
    right = (similarities < own).sum(axis=1) == classes.shape[0] - 1
    photo = birds != NO_BIRD
    added = jnp.stack([photo, photo & right], axis=1).astype(jnp.int32)
    return counts.at[jnp.maximum(birds, 0), jnp.maximum(places, 0)].add(added)
