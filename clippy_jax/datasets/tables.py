"""Tables of image paths and captions as a source, in the forms in which people keep them."""

import collections
import copy
import csv
import itertools
import os
import pathlib
from collections.abc import Iterator
from typing import IO

from clippy_jax.datasets import patterns
from clippy_jax.datasets.open_files import read_whole
from clippy_jax.datasets.sample import BadCounts, Sample, Source, digest_of
from clippy_jax.errors import InputError, reading

ENDINGS = (".csv", ".tsv", ".txt")
SEPARATORS = ("\t", ",", ";")
IMAGE_COLUMNS = ("filepath", "image", "path", "image_path", "file_name", "filename", "file_path", "image_file", "file")
CAPTION_COLUMNS = ("caption", "title", "text", "captions", "description")
_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_LINES = 100  # that a row in quotes may take; a quote that is open for longer was never closed
_LOOKED_UP = 100  # images: if none of them is there, the paths are wrong


class TableSource(Source):
    """A table with a column of image paths, absolute or relative to its folder, and one of captions.

    Its first row names the columns; without one, a table of two columns has the paths in that of which the first row
    looks like an image's. The separator is the one with which the columns are found.
    """

    def __init__(self, table: pathlib.Path, image_column: str = "", caption_column: str = ""):
        """Reads the table.

        Args:
          image_column, caption_column: their names; "" for `IMAGE_COLUMNS`, `CAPTION_COLUMNS`.

        Raises:
          InputError: it is no text, lacks a column, or none of its first images exists.
        """
        self.folder = table.parent
        self.paths: list[str] = []
        self.captions: list[str] = []
        self.left_out = BadCounts()
        self._opens_images = True
        names = tuple(
            (name,) if name else usual
            for name, usual in ((image_column, IMAGE_COLUMNS), (caption_column, CAPTION_COLUMNS))
        )
        with reading(f"{patterns.KEY}: {table}"), _open_text(table) as file:
            self._read(table, file, names)
        self._check_paths(table)

    def _read(self, table: pathlib.Path, file: IO[str], names: tuple[tuple[str, ...], ...]) -> None:
        first = file.readline()
        separator, columns, has_header = _layout(table, first, names)
        width = len(next(_rows(iter([first]), separator)))
        lines = file if has_header else itertools.chain([first], file)
        for number, row in enumerate(_rows(lines, separator), start=1 + has_header):
            path, caption = ((row[column].strip() if column < len(row) else "") for column in columns)
            cause = "" if path and caption else "captionless" if path else "imageless"
            if any(field.strip() for field in row[width:]):  # a separator in a caption, or a quote left open
                cause = "of too many columns"
            if cause:
                self.left_out.note(cause, f"{table}, row {number}")
            else:
                self.paths.append(path)
                self.captions.append(caption)

    def _check_paths(self, table: pathlib.Path) -> None:
        looked_up = range(min(len(self.paths), _LOOKED_UP))
        if looked_up and not any(os.path.isfile(self.path(index)) for index in looked_up):
            raise InputError(
                f"{patterns.KEY}: {table} names the image {self.paths[0]}, which does not exist"
                f"{f', nor do those of its first {len(looked_up)} rows' if len(looked_up) > 1 else ''}; "
                f"paths must be absolute or relative to {self.folder}"
            )

    def path(self, index: int) -> str:
        """Of the image file of a sample."""
        path = self.paths[index]
        return os.path.join(self.folder, os.path.expanduser(path) if path.startswith("~/") else path)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        image = read_whole(self.path(index), self.folder) if self._opens_images else b""
        return Sample(image, self.captions[index])

    def images_digest(self) -> str:
        """As `Source` does: by the names of the files."""
        return digest_of(map(os.path.basename, self.paths))

    def without_images(self) -> "TableSource":
        """As `Source` does: no image file is opened."""
        captions = copy.copy(self)
        captions._opens_images = False
        return captions

    def name(self, index: int) -> str:
        """Where a sample lies, for messages."""
        return self.path(index)


def _open_text(table: pathlib.Path) -> IO[str]:
    with open(table, "rb") as file:
        start = file.read(4096)
    utf16 = start.startswith((b"\xff\xfe", b"\xfe\xff"))  # what spreadsheets call Unicode
    if b"\0" in start.split(b"\n")[0] and not utf16:
        raise InputError(f"{patterns.KEY}: {table} is no table; name .tar shards or a table of text")
    return open(table, encoding="utf-16" if utf16 else "utf-8-sig", errors="replace", newline="")


def _layout(table: pathlib.Path, first: str, names: tuple[tuple[str, ...], ...]) -> tuple[str, tuple[int, int], bool]:
    """The separator, the columns of paths and captions, and whether the first row names them."""
    by_separator = {separator: next(_rows(iter([first]), separator), []) for separator in SEPARATORS}
    for separator, row in by_separator.items():
        lowered = [field.strip().lower() for field in row]
        found = [[lowered.index(name.lower()) for name in some if name.lower() in lowered] for some in names]
        if all(found):
            return separator, (found[0][0], found[1][0]), True
    for separator, row in by_separator.items():
        images = [column for column, field in enumerate(row) if field.strip().lower().endswith(_IMAGE_ENDINGS)]
        if len(row) == 2 and len(images) == 1 and not row[images[0]].strip().startswith(("http:", "https:")):
            return separator, (images[0], 1 - images[0]), False
    widest = max(by_separator.values(), key=len)
    lowered = [field.strip().lower() for field in widest]
    lacking = next(some for some in names if not any(name.lower() in lowered for name in some))
    raise InputError(
        f"{patterns.KEY}: the first line of {table} has no column {' or '.join(repr(name) for name in lacking[:3])}; "
        f"it has {', '.join(repr(field.strip()[:40]) for field in widest[:8]) or 'nothing'}; rename one, or set "
        f"input.{'image' if lacking == names[0] else 'caption'}_column"
    )


def _rows(lines: Iterator[str], separator: str) -> Iterator[list[str]]:
    """The rows of a table that are not empty.

    A quote that nobody closes, or that closes in the middle of a field, is a character like others. Where fields are
    separated by tabs a row is a line.
    """
    ahead: collections.deque[str] = collections.deque()
    longest = 1 if separator == "\t" else _LINES
    while line := ahead.popleft() if ahead else next(lines, ""):
        row = line.rstrip("\r\n").split(separator)
        if '"' in line:
            taken = [line]

            def quoted() -> Iterator[str]:
                yield line  # noqa: B023 (used up within this turn)
                while len(taken) < longest and (more := ahead.popleft() if ahead else next(lines, "")):  # noqa: B023
                    taken.append(more)  # noqa: B023
                    yield more

            try:
                row = next(csv.reader(quoted(), delimiter=separator, strict=True))
            except csv.Error:
                ahead.extendleft(reversed(taken[1:]))
        if any(field.strip() for field in row):
            yield row
