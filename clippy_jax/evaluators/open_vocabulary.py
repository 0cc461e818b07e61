"""The eight data sets of open-vocabulary segmentation under one folder, in the one table that papers print."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from clippy_jax.datasets import label_layouts
from clippy_jax.datasets.label_layouts import LabelLayout
from clippy_jax.errors import InputError
from clippy_jax.evaluators.evaluator import Evaluator, Feeding
from clippy_jax.evaluators.protocols import COLUMNS, FLAGS, STANDARD
from clippy_jax.evaluators.result import THIS, SuiteResult, markdown, percent
from clippy_jax.evaluators.segmentation import Segmentation, SegmentationResult
from clippy_jax.inference import Model

# Data set → where it may lie, as its distributor and MMSegmentation unpack it.
_COCO = ("coco", "COCO", "coco_stuff164k", "coco_stuff")
PLACES: Mapping[LabelLayout, tuple[str, ...]] = {
    label_layouts.VOC: ("VOCdevkit/VOC2012", "VOC2012"),
    label_layouts.PASCAL_CONTEXT_60: ("VOCdevkit/VOC2010", "VOC2010"),
    label_layouts.COCO_OBJECT: _COCO,
    label_layouts.VOC_20: ("VOCdevkit/VOC2012", "VOC2012"),
    label_layouts.CITYSCAPES_19: ("cityscapes", "Cityscapes"),
    label_layouts.PASCAL_CONTEXT_59: ("VOCdevkit/VOC2010", "VOC2010"),
    label_layouts.ADE20K: ("ADEChallengeData2016", "ade/ADEChallengeData2016"),
    label_layouts.COCO_STUFF: _COCO,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenVocabularyResult(SuiteResult):
    """The results of the data sets that are there, by their columns."""

    parts: dict[str, SegmentationResult]

    @property
    def average(self) -> float | None:
        """The mean mIoU of all eight; None where one is missing."""
        return average([part.miou for part in self.parts.values()])

    def figures(self) -> dict[str, float]:
        """The mIoU of each data set, and their average."""
        mious = {f"miou_{column}": part.miou for column, part in self.parts.items()}
        return mious if self.average is None else mious | {"average": self.average}

    def tables(self) -> list[str]:
        """mIoU of all columns with its intervals and the published rows, then both accuracies."""

        def row(who: str, figure: str) -> tuple:
            values = [getattr(self.parts[column], figure) if column in self.parts else None for column in COLUMNS]
            return who, *map(percent, (*values, average(values)))

        bounds = []
        for column in COLUMNS:
            interval = self.parts[column].intervals.get("miou") if column in self.parts else None
            bounds.append(interval and f"{100 * interval.low:.1f}-{100 * interval.high:.1f}")
        mious = [row(THIS, "miou"), ("95 % interval", *bounds, None)]
        for who, published in next(iter(self.parts.values())).options.published.items():
            mious.append((who, *published, average(published)))
        accuracies = [row("mean accuracy", "mean_accuracy"), row("pixel accuracy", "pixel_accuracy")]
        return [
            markdown((f"mIoU, {self.protocol}", *COLUMNS, "average"), mious),
            markdown((THIS, *COLUMNS, "average"), accuracies),
        ]


class OpenVocabulary(Evaluator):
    """Segments the images of all data sets that are there.

    Args:
      folder: what holds them (`PLACES`).
      protocol: by the name of a record (`protocols/`), or a JSON file with one.

    Raises:
      InputError: none is there, or one is not complete.
    """

    flags = FLAGS[:1]

    def __init__(self, folder: str, protocol: str = STANDARD):
        self._folder = folder
        self._of_column = {}
        root = pathlib.Path(os.path.expanduser(folder))
        for layout, places in PLACES.items():
            tree = next((root / place for place in places if (root / place).is_dir()), None)
            if tree:
                self._of_column[layout.column] = Segmentation(str(tree), layout, protocol)
        if not self._of_column:
            looked_for = dict.fromkeys(place for places in PLACES.values() for place in places)
            raise InputError(f"{folder} holds no data set of open-vocabulary segmentation: {', '.join(looked_for)}")

    def measure(self, model: Model, feeding: Feeding) -> OpenVocabularyResult:
        """One after the other."""
        settings = dataclasses.asdict(feeding)
        parts = {column: evaluator.run(model, **settings) for column, evaluator in self._of_column.items()}
        return OpenVocabularyResult.of("open-vocabulary segmentation", self._folder, parts)


def average(values: Sequence[float | None]) -> float | None:
    """The mean over all `COLUMNS`; None where one has no value."""
    complete = len(values) == len(COLUMNS) and None not in values
    return float(np.mean(values)) if complete else None
