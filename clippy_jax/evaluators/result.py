"""What every evaluation's result carries beside its figures, so that a number can be quoted, and how it is shown."""

import abc
import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

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

    def report(self) -> str:
        """The tables, under a line that says how the numbers were measured."""
        unreadable = f", {len(self.unreadable)} more unreadable" if self.unreadable else ""
        measured = (
            f"{self.folder}: {self.images:,} images of {self.split}{unreadable}; protocol: {self.protocol}; "
            f"{self.resolution}; prompts: {self.prompt_set}; {self.pooling} pooling; {self.seconds:.0f} s\n"
        )
        return measured + "\n" + "\n\n".join(self.tables())

    def as_json(self) -> dict[str, Any]:
        """The headline figures, and all there is to know."""
        return self.figures() | dataclasses.asdict(self)


def markdown(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Columns of equal width, words to the left and numbers to the right; None is an empty cell."""
    cells = [header] + [[row[0], *("" if value is None else f"{value:.1f}" for value in row[1:])] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |" for row in cells]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def percent(share: float | None) -> float | None:
    """A share between 0 and 1 for a table; None stays None."""
    return None if share is None else 100 * share


def write_json(values: Any, path: str | pathlib.Path) -> None:
    """Writes a JSON file, replaced if it exists; it appears complete or not at all.

    Raises:
      InputError: it cannot be written.
    """
    with complete_or_nothing(str(path), force=True) as temporary:
        pathlib.Path(temporary).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
