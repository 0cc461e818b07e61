"""CSV and TSV tables of image paths and captions as a source."""

import csv
import pathlib
from collections import Counter

from clippy_jax.datasets import patterns
from clippy_jax.datasets.sample import BadSample, Sample
from clippy_jax.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
IMAGE_COLUMNS = ("filepath", "image", "path")
CAPTION_COLUMNS = ("caption", "title", "text")


class TableSource:
    """A table with a header row, one column of image paths (relative to the table's folder) and one of captions."""

    def __init__(self, table: pathlib.Path):
        """Reads the table.

        Raises:
          InputError: it has no header, lacks a column, or the image of its first row does not exist.
        """
        self.folder = table.parent
        self.paths: list[str] = []
        self.captions: list[str] = []
        left_out: Counter[str] = Counter()
        with open(table, encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = csv.reader(file, delimiter=DELIMITERS[table.suffix.lower()])
            try:
                header = next(rows, [])
                path_column, caption_column = (
                    _column(table, header, names) for names in (IMAGE_COLUMNS, CAPTION_COLUMNS)
                )
                for row in rows:
                    path, caption = ((row[i].strip() if i < len(row) else "") for i in (path_column, caption_column))
                    if path and caption:
                        self.paths.append(path)
                        self.captions.append(caption)
                    elif row:
                        left_out["captionless" if path else "imageless"] += 1
            except csv.Error as error:
                raise InputError(f"{patterns.KEY}: {table}, line {rows.line_num}: {error}; mend that line") from None
        self.left_out = dict(left_out)
        if self.paths and not (self.folder / self.paths[0]).is_file():
            raise InputError(
                f"{patterns.KEY}: {table} names the image {self.paths[0]}, which does not exist; "
                f"paths must be absolute or relative to {self.folder}"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        try:
            return Sample((self.folder / self.paths[index]).read_bytes(), self.captions[index])
        except OSError as error:
            raise BadSample("unreadable") from error


def _column(table: pathlib.Path, header: list[str], names: tuple[str, ...]) -> int:
    lowered = [name.strip().lower() for name in header]
    for name in names:
        if name in lowered:
            return lowered.index(name)
    raise InputError(
        f"{patterns.KEY}: the first line of {table} has no column {' or '.join(repr(name) for name in names)}; "
        f"it has {', '.join(repr(name) for name in header[:8]) or 'nothing'}"
    )
