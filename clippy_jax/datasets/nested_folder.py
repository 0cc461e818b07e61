"""Finds the folder that was meant where one too many, or one too few, was given."""

import contextlib
import itertools
import os
import pathlib
from collections.abc import Callable

_MOST = 200  # entries of a folder that are looked at: one of a million images is no parent of data sets


def hint(root: pathlib.Path, fits: Callable[[pathlib.Path], bool]) -> str:
    """For the end of a message: "; did you mean X?", where a folder one or two below or above `root` fits."""
    below = [child for child in _folders(root) for child in (child, *_folders(child))]
    above = root.absolute().parents[:2]
    for folder in (*sorted(below, key=lambda folder: (len(folder.parts), folder)), *above):
        with contextlib.suppress(OSError):  # it may not be read
            if fits(folder):
                return f"; did you mean {folder}?"
    return ""


def _folders(root: pathlib.Path) -> list[pathlib.Path]:
    try:
        with os.scandir(root) as entries:
            first = list(itertools.islice(entries, _MOST))
        return [root / entry.name for entry in first if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []
