"""What every evaluation's result carries beside its figures, so that a number can be quoted, and how it is shown."""

import abc
import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from clippy_jax.evaluators.intervals import Counts, Interval
from clippy_jax.whole_files import complete_or_nothing

THIS = "this checkpoint"
Cell = str | float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result(abc.ABC):
    """How a number was measured."""

    task: str
    folder: str
    protocol: str
    split: str
    resolution: str
    prompt_set: str
    images: int  # that were counted
    unreadable: tuple[str, ...]  # images that could not be read, and so were not counted
    counts: Counts | None = dataclasses.field(default=None, repr=False, compare=False)  # of each image
    # Set by `Evaluator.run`.
    image_size: int = 0  # pixels of the short side as fed
    pooling: str = ""
    seconds: float = 0.0  # prompts and compilation included

    @abc.abstractmethod
    def figures(self) -> dict[str, float]:
        """The headline figures by name, for a log; shares between 0 and 1."""

    @abc.abstractmethod
    def tables(self) -> list[str]:
        """Markdown tables in percent, published numbers below ours where they were measured in the same way."""

    @functools.cached_property
    def intervals(self) -> dict[str, Interval]:
        """Where 95 % of the figures of other images like these would lie."""
        intervals = {} if self.counts is None else self.counts.intervals()
        return {name: interval for name, interval in intervals.items() if not np.isnan(interval).any()}

    def cell(self, figure: str) -> str | None:
        """A figure in percent with its interval, for a table; None if there is none of that name."""
        value, interval = self.figures().get(figure), self.intervals.get(figure)
        return None if value is None else in_percent(value, interval)

    def report(self) -> str:
        """The tables, under a line that says how the numbers were measured."""
        unreadable = f", {len(self.unreadable)} more unreadable" if self.unreadable else ""
        measured = (
            f"{self.folder}: {self.images:,} images of {self.split}{unreadable}; protocol: {self.protocol}; "
            f"{self.resolution}; prompts: {self.prompt_set}; {self.pooling} pooling; {self.seconds:.0f} s\n"
        )
        return measured + "\n" + "\n\n".join(self.tables())

    def as_json(self) -> dict[str, Any]:
        """The headline figures with their intervals, and all there is to know save the counts of each image."""
        ratios = {} if self.counts is None else self.counts.figures
        fields = dataclasses.asdict(dataclasses.replace(self, counts=None)) | {"counts": ratios}
        return self.figures() | {"intervals": self.intervals} | fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteResult(Result):
    """The results of several data sets, by name."""

    parts: dict[str, Result]

    @classmethod
    def of(cls, task: str, folder: str, parts: Mapping[str, Result]) -> Self:
        """What is said of them together."""

        def said(field: str) -> str:
            return "; ".join(dict.fromkeys(getattr(part, field) for part in parts.values()))

        return cls(
            task=task,
            folder=folder,
            **{field: said(field) for field in ("protocol", "split", "resolution", "prompt_set")},
            images=sum(part.images for part in parts.values()),
            unreadable=sum((part.unreadable for part in parts.values()), ()),
            parts=dict(parts),
        )

    def as_json(self) -> dict[str, Any]:
        """As of every result, save the data sets' own, which `write_results` puts beside it."""
        values = Result.as_json(dataclasses.replace(self, parts={}))
        del values["parts"]
        return values | self.figures()


def markdown(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Columns of equal width, words to the left and numbers to the right; None is an empty cell."""
    cells = [header] + [[row[0], *map(shown, row[1:])] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |" for row in cells]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def shown(cell: Cell) -> str:
    """A cell as text: numbers with one digit, None as nothing."""
    return f"{cell:.1f}" if isinstance(cell, float | int) else cell or ""


def in_percent(share: float, interval: Sequence[float] | None) -> str:
    """A share in percent, with its interval if there is one."""
    low_to_high = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
    return f"{100 * share:.1f}{low_to_high}"


def percent(share: float | None) -> float | None:
    """A share between 0 and 1 for a table; None stays None."""
    return None if share is None else 100 * share


def write_results(results: Mapping[str, Result], path: pathlib.Path, **about: Any) -> None:
    """Writes a JSON of results by name, and beside it the counts of each image, for `clippy_jax.compare`.

    Args:
      results: by the name of the evaluation.
      path: of the JSON; the counts are where `counts_path` says.
      about: what each result carries beside its own, such as its checkpoint.

    Raises:
      InputError: they cannot be written.
    """
    results = dict(results)
    for name, result in list(results.items()):
        results |= {f"{name}/{part}": of for part, of in getattr(result, "parts", {}).items()}
    arrays = {}
    for name, result in results.items():
        if result.counts is not None:
            arrays[f"{name}/names"] = np.array(result.counts.images)
            arrays |= {f"{name}/{key}": values for key, values in result.counts.of.items()}
    with complete_or_nothing(str(counts_path(path)), force=True) as temporary:  # neither without the other
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
        write_json({name: about | result.as_json() for name, result in results.items()}, path)


def counts_path(path: pathlib.Path) -> pathlib.Path:
    """Where the counts of each image lie that belong to a JSON of results; `step.1` and `step.2` do not share them."""
    return path.with_name(f"{path.name.removesuffix('.json')}.counts.npz")


def write_json(values: Any, path: str | pathlib.Path) -> None:
    """Writes a JSON file, replaced if it exists; it appears complete or not at all.

    Raises:
      InputError: it cannot be written.
    """
    with complete_or_nothing(str(path), force=True) as temporary:
        pathlib.Path(temporary).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
