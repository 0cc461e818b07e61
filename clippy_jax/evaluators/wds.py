"""Zero-shot classification on CLIP_benchmark's data sets, as many as lie in a folder (`tars/wds_images.py`)."""

import dataclasses
import os

import numpy as np

from clippy_jax.datasets.tars import wds_images
from clippy_jax.evaluators.evaluator import Evaluator, Feeding
from clippy_jax.evaluators.result import SuiteResult, markdown, percent
from clippy_jax.evaluators.zero_shot_classification import ZeroShotClassification, ZeroShotResult
from clippy_jax.inference import Model


@dataclasses.dataclass(frozen=True, kw_only=True)
class WdsResult(SuiteResult):
    """The results of the data sets by the names of their folders."""

    parts: dict[str, ZeroShotResult]

    def figures(self) -> dict[str, float]:
        """Top-1 of each data set, and their average."""
        shares = {f"top1_{name}": part.top1 for name, part in self.parts.items()}
        return shares | ({"average": float(np.mean(list(shares.values())))} if shares else {})

    def tables(self) -> list[str]:
        """A row for each data set; the mean over classes is what some of their tables show."""
        rows = []
        for name, part in self.parts.items():
            of_classes = [share for share in part.per_class_top1.values() if share is not None]
            rows.append((name, str(part.images), part.cell("top1"), part.cell("top5"), percent(np.mean(of_classes))))
        rows.append(("average", None, percent(self.figures()["average"]), None, None))
        return [markdown((self.task, "images", "top-1", "top-5", "mean of classes"), rows)]


class Wds(Evaluator):
    """Classifies the images of every data set at a folder (`wds_images.find`)."""

    def __init__(self, folder: str):
        self._folder = folder
        read = {root: ZeroShotClassification(wds_images.read(root)) for root in wds_images.find(folder)}
        self._of_name = {os.path.basename(os.path.abspath(root)): evaluator for root, evaluator in read.items()}

    def measure(self, model: Model, feeding: Feeding) -> WdsResult:
        """One after the other."""
        settings = dataclasses.asdict(feeding)
        parts = {name: evaluator.run(model, **settings) for name, evaluator in self._of_name.items()}
        return WdsResult.of("zero-shot classification", self._folder, parts)
