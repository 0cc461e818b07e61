"""Waterbirds: does the background decide what a model calls a bird? (data: Sagawa et al., 2020)

Each image is classified without training, as waterbird or landbird (`two-way`) or also as background (`three-way`, the
paper's, at 448 pixels). A bird's *domain gap* is its accuracy on its own place minus that on the other's.
"""

import dataclasses
import typing
from typing import Literal

import numpy as np
from jaxtyping import Bool

from clippy_jax.datasets import image_file, vocabulary, waterbirds_tree
from clippy_jax.evaluators import image_pass, published
from clippy_jax.evaluators.evaluator import Evaluator, Feeding, Flag
from clippy_jax.evaluators.intervals import Counts, Ratio
from clippy_jax.evaluators.result import THIS, Result, markdown, percent
from clippy_jax.inference import Model
from clippy_jax.inference.label_maps import similarities

Choices = Literal["two-way", "three-way"]

CELLS = ((0, 0), (0, 1), (1, 1), (1, 0))  # (bird, place): a bird's own place before the other
PUBLISHED_SETTINGS = ("test", "three-way", 448)


@dataclasses.dataclass(frozen=True)
class BirdAndPlace:
    """One bird in one place."""

    bird: str
    place: str
    own_place: bool
    images: int
    right: int
    accuracy: float | None  # None where there is no image


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaterbirdsResult(Result):
    """Accuracy by bird and place."""

    average: float  # over all images
    worst_group: float  # the lowest accuracy of a cell
    domain_gap: dict[str, float | None]  # by bird; None where one of its cells has no image
    cells: tuple[BirdAndPlace, ...]  # a bird's own place before the other
    published_comparable: bool  # the words, the split, the choices and the resolution of published numbers

    def figures(self) -> dict[str, float]:
        """The average, the worst group and each bird's gap."""
        gaps = {f"gap_{bird}": gap for bird, gap in self.domain_gap.items() if gap is not None}
        return {"average": self.average, "worst_group": self.worst_group, **gaps}

    def tables(self) -> list[str]:
        """Each bird on both places, then both birds."""
        rows = [
            (own.bird, *map(percent, (own.accuracy, other.accuracy)), self.cell(f"gap_{own.bird}"))
            for own, other in zip(self.cells[::2], self.cells[1::2], strict=True)
        ]
        rows += published.rows("waterbirds", "own", "other", "gap") if self.published_comparable else ()
        overall = [(THIS, self.cell("average"), self.cell("worst_group"))]
        return [
            markdown((self.task, "own place", "other place", "gap"), rows),
            markdown(("both birds", "average", "worst group"), overall),
        ]


class Waterbirds(Evaluator):
    """Classifies every image of a split of a Waterbirds tree (`waterbirds_tree.read`).

    Args:
      folder: the tree.
      choices: `two-way` or `three-way`, see the module's text.
      split: `train`, `val` or `test`.
    """

    flags = (
        Flag(
            "waterbirds_choices",
            "choices",
            str,
            "with or without background as a choice; three-way by default",
            typing.get_args(Choices),
        ),
        Flag("waterbirds_split", "split", str, "train, val or test, which is the default"),
    )

    def __init__(self, folder: str, choices: Choices = "three-way", split: str = "test"):
        self._choices = choices
        self._tree = waterbirds_tree.read(folder, split)

    def measure(self, model: Model, feeding: Feeding) -> WaterbirdsResult:
        """Accuracy by bird and place. An answer is right if no other choice is at least as similar."""
        tree, words = self._tree, self._tree.vocabulary
        names = words.birds if self._choices == "two-way" else (*words.birds, words.background)
        classes = model.class_embeddings(vocabulary.fill_in(words.templates, names), feeding.progress)
        crops = image_pass.centre_crops(tree.paths, lambda i: (image_file.open_image(tree.paths[i]),), feeding)

        def encode(pixels):
            return similarities(model.encode_image(pixels)[1], classes)

        numbers, scores = crops.per_image(model, encode, "waterbirds")
        birds, places = tree.birds[numbers], tree.places[numbers]
        own = np.take_along_axis(scores, birds[:, None], axis=1)
        right = (scores < own).sum(axis=1) == len(names) - 1  # a similarity of NaN is never less
        in_cell = np.stack([(birds == bird) & (places == place) for bird, place in CELLS], axis=1)
        cells = tuple(_cell(words, *cell, right[inside]) for cell, inside in zip(CELLS, in_cell.T))
        settings = (tree.split, self._choices, feeding.image_size)
        of = {"images": in_cell, "right": in_cell & right[:, None]}
        ratios = {"average": Ratio("right", "images"), "worst_group": Ratio("right", "images", "lowest")}
        for first, bird in zip((0, 2), words.birds):
            of |= {f"{name} {bird}": of[name][:, first : first + 2] for name in ("images", "right")}
            ratios[f"gap_{bird}"] = Ratio(f"right {bird}", f"images {bird}", "difference")
        return WaterbirdsResult(
            task="Waterbirds",
            folder=str(tree.folder),
            protocol=f"{self._choices}: {', '.join(names)}",
            split=tree.split,
            resolution=image_pass.centre_crop_resolution(feeding.image_size),
            prompt_set=words.prompt_set,
            images=len(numbers),
            unreadable=crops.unreadable,
            average=float(right.mean()),
            worst_group=min(cell.accuracy for cell in cells if cell.images),
            domain_gap={own.bird: _gap(own, other) for own, other in zip(cells[::2], cells[1::2])},
            cells=cells,
            counts=Counts.of_images(tree.folder, tree.paths, numbers, of, ratios),
            published_comparable=words.is_waterbirds and settings == PUBLISHED_SETTINGS,
        )


def _cell(words: vocabulary.WaterbirdsVocabulary, bird: int, place: int, right: Bool[np.ndarray, "I"]) -> BirdAndPlace:
    images, count = len(right), int(right.sum())
    return BirdAndPlace(
        words.birds[bird], words.places[place], place == bird, images, count, count / images if images else None
    )


def _gap(own: BirdAndPlace, other: BirdAndPlace) -> float | None:
    return own.accuracy - other.accuracy if own.images and other.images else None
