"""Every evaluation by its name: the flag of `clippy_jax.evaluate`, the key in its JSON and in `config.evals.tasks`.

A new evaluation is one file with its `Evaluator` and one line of `TASKS`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from clippy_jax.datasets import label_layouts
from clippy_jax.datasets.label_layouts import LabelLayout
from clippy_jax.errors import InputError
from clippy_jax.evaluators.evaluator import Evaluator, Flag
from clippy_jax.evaluators.grouping import Grouping
from clippy_jax.evaluators.knn import NearestNeighbours
from clippy_jax.evaluators.linear_probe import LinearProbe
from clippy_jax.evaluators.open_vocabulary import OpenVocabulary
from clippy_jax.evaluators.retrieval import Retrieval
from clippy_jax.evaluators.segmentation import VOC_FLAGS, Segmentation
from clippy_jax.evaluators.waterbirds import Waterbirds
from clippy_jax.evaluators.wds import Wds
from clippy_jax.evaluators.zero_shot_classification import ZeroShotClassification


@dataclasses.dataclass(frozen=True)
class Task:
    """One evaluation of one kind of data.

    Attributes:
      data: what its path is, for the help: "DIR" or "FILE".
      help: what it measures and on what.
      evaluator: made with the path, and by keyword what the flags say; raises `InputError` where they do not fit.
      flags: what may be chosen on the command line; training evaluates without any.
    """

    data: str
    help: str
    evaluator: Callable[..., Evaluator]
    flags: tuple[Flag, ...] = ()


def check_name(name: str, where: str) -> None:
    """Raises `InputError`, starting with `where`, if there is no evaluation of that name."""
    if name not in TASKS:
        raise InputError(f"{where} is not an evaluation; known here: {', '.join(TASKS)}")


def _task(data: str, help: str, evaluator: type[Evaluator]) -> Task:
    return Task(data, help, evaluator, evaluator.flags)


def _segmentation(data: str, layout: LabelLayout, *flags: Flag) -> Task:
    make = functools.partial(Segmentation, layout=layout)
    return Task("DIR", f"{data}: top-down segmentation", make, (*flags, *Segmentation.flags))


IMAGENET = "ImageNet's tree, any with vocabulary.json, tfds:NAME"
TASKS: Mapping[str, Task] = {
    "imagenet": _task("DIR", f"{IMAGENET}: zero-shot classification", ZeroShotClassification),
    "imagenet_v2": _task("DIR", "ImageNet-v2's numbered folders: zero-shot classification", ZeroShotClassification),
    "wds": _task("DIR", "CLIP_benchmark's tars, or a folder of several: zero-shot classification", Wds),
    "voc": _segmentation("PASCAL-VOC-shaped tree", label_layouts.VOC, *VOC_FLAGS),
    "voc20": _segmentation("PASCAL VOC, 20 classes without background", label_layouts.VOC_20),
    "context": _segmentation("PASCAL Context, 59 classes", label_layouts.PASCAL_CONTEXT_59),
    "context_background": _segmentation("PASCAL Context with background", label_layouts.PASCAL_CONTEXT_60),
    "ade20k": _segmentation("ADE20K, 150 classes", label_layouts.ADE20K),
    "coco": _segmentation("COCO panoptic, 133 classes", label_layouts.COCO_PANOPTIC),
    "coco_stuff": _segmentation("COCO-Stuff, 171 classes", label_layouts.COCO_STUFF),
    "coco_object": _segmentation("COCO-Object, 80 classes and background", label_layouts.COCO_OBJECT),
    "cityscapes": _segmentation("Cityscapes, 27 classes", label_layouts.CITYSCAPES),
    "cityscapes19": _segmentation("Cityscapes, 19 classes", label_layouts.CITYSCAPES_19),
    "open_vocabulary": _task(
        "DIR", "the folder that holds these data sets: all that are there, in one table", OpenVocabulary
    ),
    "grouping": _task("DIR", "PASCAL-VOC-shaped tree: bottom-up grouping", Grouping),
    "waterbirds": _task("DIR", "Waterbirds tree: does the background decide?", Waterbirds),
    "retrieval": _task(
        "FILE", "table, tars, Karpathy split or tfds:NAME of images and captions: retrieval both ways", Retrieval
    ),
    "knn": _task("DIR", "tree with train and val, a folder per class in each: kNN", NearestNeighbours),
    "linear_probe": _task("DIR", "the same tree: linear probe", LinearProbe),
}
