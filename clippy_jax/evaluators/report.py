"""Results for people (Markdown tables beside published numbers) and for programs (JSON)."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from clippy_jax.evaluators import published
from clippy_jax.evaluators.result import Result
from clippy_jax.evaluators.segmentation import SegmentationResult
from clippy_jax.evaluators.zero_shot_classification import ClassificationResult


@functools.singledispatch
def table(result: Result) -> str:
    """A result as a Markdown table in percent, under a line that says how it was measured."""
    raise NotImplementedError(f"no table for {type(result).__name__}")


@table.register
def _classification_table(result: ClassificationResult) -> str:
    rows = [("this checkpoint", 100 * result.top1, 100 * result.top5)]
    rows += published.IMAGENET if result.published_comparable else ()
    return f"{_measured(result)}\n{_markdown((result.task, 'top-1', 'top-5'), rows)}"


@table.register
def _segmentation_table(result: SegmentationResult) -> str:
    rows = [("this checkpoint", 100 * result.miou, 100 * result.pixel_accuracy)]
    rows += [(who, miou, None) for who, miou in published.VOC] if result.published_comparable else ()
    by_class = ((name, None if iou is None else 100 * iou) for name, iou in result.per_class_iou.items())
    return (
        f"{_measured(result)}\n{_markdown((result.task, 'mIoU', 'pixel accuracy'), rows)}\n\n"
        f"{_markdown(('class', 'IoU'), list(by_class))}"
    )


def write_json(results: dict[str, Result], checkpoint: dict[str, str], path: pathlib.Path) -> None:
    """Writes each result with the checkpoint it is of; the file appears complete or not at all."""
    values: dict[str, Any] = {
        name: checkpoint | result.figures() | dataclasses.asdict(result) for name, result in results.items()
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    temporary.replace(path)


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
