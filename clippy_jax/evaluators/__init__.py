"""Evaluations with named protocols, the same for the command line and for a training run.

An evaluator reads and checks its data once and measures as many models as wanted:

    segmentation = Segmentation("/data/VOC2012")
    print(segmentation.run(clippy_jax.load("clippy_5k.pt"), batch_size=64, image_size=224).report())
"""

from clippy_jax.evaluators.evaluator import Evaluator
from clippy_jax.evaluators.grouping import Grouping
from clippy_jax.evaluators.knn import NearestNeighbours
from clippy_jax.evaluators.linear_probe import LinearProbe
from clippy_jax.evaluators.open_vocabulary import OpenVocabulary
from clippy_jax.evaluators.result import Result, write_json
from clippy_jax.evaluators.retrieval import Retrieval
from clippy_jax.evaluators.segmentation import Segmentation
from clippy_jax.evaluators.tasks import TASKS
from clippy_jax.evaluators.waterbirds import Waterbirds
from clippy_jax.evaluators.zero_shot_classification import ZeroShotClassification

__all__ = [
    "TASKS",
    "Evaluator",
    "Grouping",
    "LinearProbe",
    "NearestNeighbours",
    "OpenVocabulary",
    "Result",
    "Retrieval",
    "Segmentation",
    "Waterbirds",
    "ZeroShotClassification",
    "write_json",
]
