"""Results for people (Markdown tables beside published numbers) and for programs (JSON)."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from clippy_jax.evaluators import published
from clippy_jax.evaluators.frozen_features import FeatureClassificationResult
from clippy_jax.evaluators.grouping import GroupingResult
from clippy_jax.evaluators.result import Result
from clippy_jax.evaluators.retrieval import RECALL_AT, RetrievalResult
from clippy_jax.evaluators.segmentation import SegmentationResult
from clippy_jax.evaluators.waterbirds import WaterbirdsResult
from clippy_jax.evaluators.zero_shot_classification import ClassificationResult


@functools.singledispatch
def table(result: Result) -> str:
    """A result as a Markdown table in percent, under a line that says how it was measured."""
    raise NotImplementedError(f"no table for {type(result).__name__}")


@table.register
def _classification_table(result: ClassificationResult) -> str:
    rows = [("this checkpoint", 100 * result.top1, 100 * result.top5)]
    rows += {"ImageNet": published.IMAGENET, "ImageNet-v2": published.IMAGENET_V2}.get(result.data_set, ())
    return f"{_measured(result)}\n{_markdown((result.task, 'top-1', 'top-5'), rows)}"


@table.register
def _feature_classification_table(result: FeatureClassificationResult) -> str:
    rows = [("this checkpoint", 100 * result.top1, 100 * result.top5)]
    return f"{_measured(result)}\n{_markdown((result.task, 'top-1', 'top-5'), rows)}"


@table.register
def _segmentation_table(result: SegmentationResult) -> str:
    rows = [("this checkpoint", 100 * result.miou, 100 * result.pixel_accuracy)]
    known = published.SEGMENTATION.get(result.data_set, ()) if result.published_comparable else ()
    rows += [(who, miou, None) for who, miou in known]
    by_class = ((name, None if iou is None else 100 * iou) for name, iou in result.per_class_iou.items())
    return (
        f"{_measured(result)}\n{_markdown((result.task, 'mIoU', 'pixel accuracy'), rows)}\n\n"
        f"{_markdown(('class', 'IoU'), list(by_class))}"
    )


@table.register
def _retrieval_table(result: RetrievalResult) -> str:
    rows = [
        (
            direction,
            *(100 * ranks.recall[str(k)] for k in RECALL_AT),
            ranks.mean_rank,
            ranks.median_rank,
        )
        for direction, ranks in (("image to text", result.image_to_text), ("text to image", result.text_to_image))
    ]
    header = (result.task, *(f"R@{k}" for k in RECALL_AT), "mean rank", "median rank")
    return f"{_measured(result)}\n{_markdown(header, rows)}"


@table.register
def _grouping_table(result: GroupingResult) -> str:
    rows = [("this checkpoint", 100 * result.jaccard)]
    rows += published.VOC_GROUPING if result.published_comparable else ()
    return f"{_measured(result)}\n{_markdown((result.task, 'Jaccard'), rows)}"


@table.register
def _waterbirds_table(result: WaterbirdsResult) -> str:
    rows = [
        (own.bird, *map(_percent, (own.accuracy, other.accuracy, gap)))
        for own, other, gap in zip(result.cells[::2], result.cells[1::2], result.domain_gap.values(), strict=True)
    ]
    rows += published.WATERBIRDS if result.published_comparable else ()
    overall = [("this checkpoint", 100 * result.average, 100 * result.worst_group)]
    return (
        f"{_measured(result)}\n{_markdown((result.task, 'own place', 'other place', 'gap'), rows)}\n\n"
        f"{_markdown(('both birds', 'average', 'worst group'), overall)}"
    )


def pooling_table(results: Mapping[str, Mapping[str, Result]]) -> str:
    """The ablation of the pooling as a Markdown table in percent: a row for each pooling, then the paper's.

    Args:
      results: by pooling, the results `classification`, `segmentation`, `grouping` and `waterbirds`.
    """
    rows = []
    for pooling, of in results.items():
        shares = of["classification"].top1, of["segmentation"].miou, of["grouping"].jaccard
        rows.append((pooling, *(100 * share for share in shares), *map(_percent, of["waterbirds"].domain_gap.values())))
        gaps = [f"gap of the {bird}" for bird in of["waterbirds"].domain_gap]
    rows += [(*row, *[None] * len(gaps)) for row in published.POOLING]
    return _markdown(("pooling", "accuracy", "mIoU", "Jaccard", *gaps), rows)


def write_json(results: dict[str, Result], checkpoint: dict[str, str], path: pathlib.Path) -> None:
    """Writes each result with the checkpoint it is of; the file appears complete or not at all."""
    write_values({name: json_values(result, checkpoint) for name, result in results.items()}, path)


def json_values(result: Result, checkpoint: dict[str, str]) -> dict[str, Any]:
    """What the JSON says of one result: the checkpoint it is of, the headline figures, and all there is to know."""
    return checkpoint | result.figures() | dataclasses.asdict(result)


def write_values(values: Any, path: pathlib.Path) -> None:
    """Writes a JSON file, which appears complete or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    temporary.replace(path)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _measured(result: Result) -> str:
    unreadable = f", {len(result.unreadable)} more unreadable" if result.unreadable else ""
    return (
        f"{result.folder}: {result.images:,} images of {result.split}{unreadable}; protocol: {result.protocol}; "
        f"{result.resolution}; prompts: {result.prompt_set}; {result.pooling} pooling; {result.seconds:.0f} s\n"
    )


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> str:
    """Columns of equal width, words to the left and numbers to the right."""
    cells = [header] + [[row[0], *("" if value is None else f"{value:.1f}" for value in row[1:])] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |" for row in cells]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
