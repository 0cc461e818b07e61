"""Published figures, in percent: one file of tables, for the evaluations beside which they stand and for the report.

Those of the open-vocabulary tables stand with their protocols (`protocols.json`).
"""

import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Table:
    """One table or figure of a publication.

    Attributes:
      title: what it shows.
      source: where it stands.
      columns: by a name for our programs, the heading.
      rows: who → a figure for each column; None where there is none.
      trainings: what a row's model is called → the flags of its training, where a table compares trainings.
      note: what must be known to read it.
    """

    title: str
    source: str
    columns: Mapping[str, str]
    rows: Mapping[str, Sequence[float | None]]
    trainings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""


@functools.cache
def tables() -> dict[str, Table]:
    """All tables by name."""
    text = importlib.resources.files(__name__).joinpath("figures.json").read_text("utf-8")
    return {name: Table(**values) for name, values in json.loads(text).items()}


def rows(table: str, *columns: str) -> list[tuple[str | float | None, ...]]:
    """Who published something in these columns of a table, and what: (who, figure, ...)."""
    of = tables()[table]
    places = [list(of.columns).index(column) for column in columns]
    found = [(who, *(figures[place] for place in places)) for who, figures in of.rows.items()]
    return [row for row in found if any(figure is not None for figure in row[1:])]
