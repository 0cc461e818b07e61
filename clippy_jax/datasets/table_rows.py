"""The rows of a table of images and captions, in the forms in which people keep them: separated text, JSON, gzipped."""

import ast
import collections
import csv
import gzip
import io
import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

from clippy_jax.datasets import file_kinds, image_file, patterns
from clippy_jax.errors import InputError

SEPARATORS = ("\t", ",", ";", "|")
IMAGE_COLUMNS = ("filepath", "image", "path", "image_path", "file_name", "filename", "file_path", "image_file", "file")
CAPTION_COLUMNS = ("caption", "title", "text", "captions", "description")
_LINES = 100  # that a row in quotes may take; a quote that is open for longer was never closed
_LONGEST_LIST = 2**16  # characters of captions that are written as a list


class Row(NamedTuple):
    """One row that is not empty."""

    path: str  # of the image
    captions: tuple[str, ...]  # one, save where they are written as a list
    flaw: str  # why it cannot be used, or ""


def read(table: pathlib.Path, image_column: str = "", caption_column: str = "") -> Iterator[tuple[int, Row]]:
    """The rows of a table with their numbers.

    It may be JSON (a row a line, or one list of them) or text whose first row names the columns. Without such a row a
    table of two columns has the paths in that of which the first row looks like an image's. The separator is the one
    with which the columns are found. Text that is not UTF-8 is taken as Windows-1252, which spreadsheets write.

    Args:
      image_column, caption_column: their names, in any case; "" for `IMAGE_COLUMNS`, `CAPTION_COLUMNS`.

    Raises:
      InputError: it is no text, or lacks a column.
    """
    names = tuple(
        tuple(name.lower() for name in ((given,) if given else usual))
        for given, usual in ((image_column, IMAGE_COLUMNS), (caption_column, CAPTION_COLUMNS))
    )
    with _open_text(table) as file:
        first = next((line for line in file if line.strip()), "")
        of_json = first.lstrip()[:1] in ("{", "[")
        yield from (_json_rows if of_json else _separated_rows)(table, first, file, names)


def captions_in(value: Any) -> tuple[str, ...]:
    """The captions in a field: a text, a list of them, or a text that is such a list as Python and JSON write it."""
    if isinstance(value, str) and value.strip().startswith("[") and len(value) <= _LONGEST_LIST:
        try:
            listed = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            listed = None  # a caption that begins so
        if isinstance(listed, list) and listed and all(isinstance(item, str) for item in listed):
            value = listed
    texts = value if isinstance(value, list) else [value]
    return tuple(stripped for text in texts if isinstance(text, str) and (stripped := _text(text)))


def _open_text(table: pathlib.Path) -> IO[str]:
    with open(table, "rb") as file:
        start = file.read(2)
    gzipped = start == b"\x1f\x8b"
    content = gzip.open(table) if gzipped else open(table, "rb")
    start = content.peek(file_kinds.BYTES)[: file_kinds.BYTES]
    utf16 = start.startswith((b"\xff\xfe", b"\xfe\xff"))  # what spreadsheets call Unicode
    kind = file_kinds.kind_of(start)
    if kind or (b"\0" in start.split(b"\n")[0] and not utf16):
        content.close()
        but = f"but {kind}" if kind else "of text"
        raise InputError(f"{patterns.KEY}: {table} is no table {but}; name .tar shards or a table of text")
    encoding, errors = ("utf-16", "replace") if utf16 else ("utf-8-sig", "surrogateescape")
    return io.TextIOWrapper(content, encoding=encoding, errors=errors, newline="")


def _text(field: str) -> str:
    try:
        field.encode()
        return field.strip()
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return field.encode("utf-8", "surrogateescape").decode("cp1252", "replace").strip()


def _row(path: Any, captions: Any) -> Row:
    path, captions = _text(path) if isinstance(path, str) else "", captions_in(captions)
    return Row(path, captions, "" if path and captions else "captionless" if path else "imageless")


def _json_rows(
    table: pathlib.Path, first: str, file: IO[str], names: tuple[tuple[str, ...], ...]
) -> Iterator[tuple[int, Row]]:
    if first.lstrip().startswith("["):
        records = enumerate(json.loads(first + file.read()), start=1)
    else:
        lines = enumerate(itertools.chain([first], file), start=1)
        records = ((number, json.loads(line)) for number, line in lines if line.strip())
    for number, record in records:
        if not isinstance(record, Mapping):
            raise InputError(f"{patterns.KEY}: row {number} of {table} is no JSON object with an image and a caption")
        lowered = {key.lower(): value for key, value in record.items()}
        found = [[name for name in some if name in lowered] for some in names]
        if number == 1 and not all(found):
            raise _lacking(table, list(record), names)
        yield number, _row(*(lowered[some[0]] if some else None for some in found))


def _separated_rows(
    table: pathlib.Path, first: str, file: IO[str], names: tuple[tuple[str, ...], ...]
) -> Iterator[tuple[int, Row]]:
    separator, columns, has_header = _layout(table, first, names)
    width = len(next(_fields(iter([first]), separator)))
    lines = file if has_header else itertools.chain([first], file)
    for number, fields in enumerate(_fields(lines, separator), start=1 + has_header):
        row = _row(*(fields[column] if column < len(fields) else "" for column in columns))
        if any(field.strip() for field in fields[width:]):  # a separator in a caption, or a quote left open
            row = row._replace(flaw="of too many columns")
        yield number, row


def _layout(table: pathlib.Path, first: str, names: tuple[tuple[str, ...], ...]) -> tuple[str, tuple[int, int], bool]:
    """The separator, the columns of paths and captions, and whether the first row names them."""
    by_separator = {separator: next(_fields(iter([first]), separator), []) for separator in SEPARATORS}
    for separator, row in by_separator.items():
        lowered = [field.strip().lower() for field in row]
        found = [[lowered.index(name) for name in some if name in lowered] for some in names]
        if all(found):
            return separator, (found[0][0], found[1][0]), True
    for separator, row in by_separator.items():
        images = [column for column, field in enumerate(row) if field.strip().lower().endswith(image_file.ENDINGS)]
        if len(row) == 2 and len(images) == 1 and not row[images[0]].strip().startswith(("http:", "https:")):
            return separator, (images[0], 1 - images[0]), False
    raise _lacking(table, max(by_separator.values(), key=len), names)


def _lacking(table: pathlib.Path, columns: list[str], names: tuple[tuple[str, ...], ...]) -> InputError:
    lowered = [column.strip().lower() for column in columns]
    lacking = next(some for some in names if not set(some) & set(lowered))
    urls = "; it has addresses: fetch the images first, with img2dataset for example" if "url" in lowered else ""
    return InputError(
        f"{patterns.KEY}: the first line of {table} has no column {' or '.join(repr(name) for name in lacking[:3])}; "
        f"it has {', '.join(repr(column.strip()[:40]) for column in columns[:8]) or 'nothing'}{urls}; rename one, or "
        f"set input.{'image' if lacking == names[0] else 'caption'}_column"
    )


def _fields(lines: Iterator[str], separator: str) -> Iterator[list[str]]:
    """The fields of the rows that are not empty.

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
