"""Every evaluation by its name: the flag of `clippy_jax.evaluate`, the key in its JSON and in `config.evals.tasks`.

A new evaluator is one line of `TASKS` and a table in `report.py`.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping
from typing import Any

from clippy_jax.datasets import label_layouts, retrieval_pairs, segmentation_tree, train_and_val, waterbirds_tree
from clippy_jax.datasets.label_layouts import LabelLayout
from clippy_jax.errors import InputError
from clippy_jax.evaluators import (
    grouping,
    knn,
    linear_probe,
    retrieval,
    segmentation,
    segmentation_options,
    waterbirds,
    zero_shot_classification,
)
from clippy_jax.evaluators.result import Result
from clippy_jax.evaluators.segmentation_options import SegmentationOptions


@dataclasses.dataclass(frozen=True)
class Option:
    """A flag of the evaluation program that becomes a keyword of an evaluation; left out, the evaluation decides."""

    flag: str
    keyword: str
    kind: Callable[[str], Any]
    help: str
    choices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Task:
    """One evaluation of one kind of data.

    Attributes:
      data: what its path is, for the help: "DIR" or "FILE".
      help: what it measures and on what.
      check: called with the path and the options before any long work; raises `InputError` where they do not fit.
      evaluate: called with the model, the path, `batch_size`, `image_size`, `progress` and the options.
      options: what may be chosen on the command line; training evaluates without any.
    """

    data: str
    help: str
    check: Callable[..., object]
    evaluate: Callable[..., Result]
    options: tuple[Option, ...] = ()


def check_name(name: str, where: str) -> None:
    """Raises `InputError`, starting with `where`, if there is no evaluation of that name."""
    if name not in TASKS:
        raise InputError(f"{where} is not an evaluation; known here: {', '.join(TASKS)}")


def _segmentation(data: str, layout: LabelLayout, *options: Option) -> Task:
    return Task(
        "DIR",
        f"{data}: top-down segmentation",
        functools.partial(_check_segmentation, layout),
        functools.partial(_evaluate_segmentation, layout),
        (*options, *_SEGMENTATION_OPTIONS),
    )


def _check_segmentation(layout: LabelLayout, path: str, protocol="standard", split: str | None = None, **chosen):
    SegmentationOptions(**chosen).check(layout, protocol)
    of_voc = segmentation.SPLIT_OF[protocol] if layout == label_layouts.VOC else None
    segmentation_tree.read(path, layout, split or of_voc)


def _evaluate_segmentation(layout: LabelLayout, model, path: str, **keywords) -> Result:
    chosen = {field.name: keywords.pop(field.name) for field in _SEGMENTATION_FIELDS if field.name in keywords}
    return segmentation.evaluate(model, path, layout=layout, options=SegmentationOptions(**chosen), **keywords)


_SEGMENTATION_FIELDS = dataclasses.fields(SegmentationOptions)
_RESIZE = typing.get_args(segmentation_options.Resize)
_BACKGROUND = typing.get_args(segmentation_options.Background)
_SEGMENTATION_OPTIONS = (
    Option("segmentation_resize", "resize", str, "short_side keeps the aspect ratio, square does not", _RESIZE),
    Option("segmentation_window", "window", int, "pixels along each side of a sliding window; whole images by default"),
    Option("segmentation_stride", "stride", int, "pixels from one window to the next; half a window by default"),
    Option("segmentation_background", "background", str, "how background is found; by default by prompts", _BACKGROUND),
    Option("segmentation_threshold", "threshold", float, "of the best similarity or probability, for background"),
)
_VOC_OPTIONS = (
    Option(
        "voc_protocol",
        "protocol",
        str,
        "standard: whole image, labels at full size; public: the public notebook's arithmetic",
        typing.get_args(segmentation.Protocol),
    ),
    Option("voc_split", "split", str, "list of images; val for standard and train for public by default"),
)
_GROUPING_OPTIONS = (
    Option("grouping_by", "groups", str, "pca: the paper's; attention: DINO's masks", typing.get_args(grouping.Groups)),
    Option("grouping_split", "split", str, "list of images; val by default"),
)
_WATERBIRDS_OPTIONS = (
    Option(
        "waterbirds_choices",
        "choices",
        str,
        "with or without background as a choice; three-way by default",
        typing.get_args(waterbirds.Choices),
    ),
    Option("waterbirds_split", "split", str, "train, val or test, which is the default"),
)
_RETRIEVAL_OPTIONS = (Option("retrieval_split", "split", str, "of a Karpathy split; test by default"),)


def _classification(data: str) -> Task:
    return Task(
        "DIR", f"{data}: zero-shot classification", zero_shot_classification.read, zero_shot_classification.evaluate
    )


TASKS: Mapping[str, Task] = {
    "imagenet": _classification("ImageNet's folder-per-class tree, one with a vocabulary.json, or tfds:NAME"),
    "imagenet_v2": _classification("ImageNet-v2's numbered folders"),
    "voc": _segmentation("PASCAL-VOC-shaped tree", label_layouts.VOC, *_VOC_OPTIONS),
    "context": _segmentation("PASCAL Context, 59 classes", label_layouts.PASCAL_CONTEXT_59),
    "context_background": _segmentation("PASCAL Context with background", label_layouts.PASCAL_CONTEXT_60),
    "ade20k": _segmentation("ADE20K, 150 classes", label_layouts.ADE20K),
    "coco": _segmentation("COCO panoptic, 133 classes", label_layouts.COCO_PANOPTIC),
    "coco_stuff": _segmentation("COCO-Stuff, 171 classes", label_layouts.COCO_STUFF),
    "coco_object": _segmentation("COCO-Object, 80 classes and background", label_layouts.COCO_OBJECT),
    "cityscapes": _segmentation("Cityscapes, 27 classes", label_layouts.CITYSCAPES),
    "grouping": Task(
        "DIR",
        "PASCAL-VOC-shaped tree: bottom-up grouping",
        lambda path, split="val", **options: grouping.read(path, split),
        grouping.evaluate,
        _GROUPING_OPTIONS,
    ),
    "waterbirds": Task(
        "DIR",
        "Waterbirds tree: does the background decide?",
        lambda path, split="test", **options: waterbirds_tree.read(path, split),
        waterbirds.evaluate,
        _WATERBIRDS_OPTIONS,
    ),
    "retrieval": Task(
        "FILE",
        "table, tars or Karpathy split of images and captions: retrieval both ways",
        lambda path, split="test", **options: retrieval_pairs.read(path, split),
        retrieval.evaluate,
        _RETRIEVAL_OPTIONS,
    ),
    "knn": Task("DIR", "tree with train and val, a folder per class in each: kNN", train_and_val.read, knn.evaluate),
    "linear_probe": Task("DIR", "the same tree: linear probe", train_and_val.read, linear_probe.evaluate),
}
