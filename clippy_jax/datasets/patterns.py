"""From `config.input.train` to the files it names."""

import glob
import itertools
import os
import pathlib
import re

from braceexpand import braceexpand

from clippy_jax.datasets import nested_folder
from clippy_jax.datasets.remote_files import RemoteFile, find, is_remote
from clippy_jax.errors import InputError, reading

KEY = "config.input.train"  # what the messages call it
_MOST = 1_000_000  # files
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)(?:\.\.-?\d+)?\}")


File = pathlib.Path | RemoteFile


def expand_files(pattern: str) -> list[File]:
    """The files that a path or an address names, each of which is there: by braces, as in
    `/data/cc12m/{00000..01242}.tar`, by `*` and `?`, or as a folder of tars. Those that are not numbered are sorted by
    name.

    Raises:
      InputError: a brace range is empty, unfinished or too large, a folder or a file is missing.
    """
    if "\0" in pattern:
        raise InputError(f"{KEY}: {pattern!r} is no path")
    if pattern.startswith("pipe:"):
        raise InputError(f"{KEY}: {pattern!r} is a command, and none is run; give the path or the address of the tars")
    for whole, first, last in ((match[0], match[1], match[2]) for match in _RANGE.finditer(pattern)):
        if int(last) < int(first):
            raise InputError(f"{KEY}: the range {whole} in {pattern!r} is empty; write the smaller number first")
        if int(last) - int(first) > _MOST:
            raise InputError(f"{KEY}: the range {whole} in {pattern!r} names more than {_MOST:,} files")
    try:
        names = list(itertools.islice(braceexpand(pattern), _MOST + 1))
    except Exception:  # unbalanced braces and whatever else it meets
        names = [pattern]
    if len(names) > _MOST:
        raise InputError(f"{KEY}: {pattern!r} names more than {_MOST:,} files")
    if any("{" in name or "}" in name for name in names):
        raise InputError(f"{KEY}: the braces in {pattern!r} hold no range; write them as {{00000..01242}}")
    names = [line for name in names for line in _in_list(name.removeprefix("file://"))]
    if remote := [name for name in names if is_remote(name)]:
        if len(remote) < len(names):
            raise InputError(f"{KEY}: {pattern!r} lists addresses and paths; join a list of each by '::'")
        return list(find(names, KEY))
    files = [file for name in names for file in _named(pathlib.Path(os.path.expanduser(name)))]
    for folder in dict.fromkeys(file.parent for file in files):
        if not os.path.isdir(folder):
            raise InputError(f"{KEY}: the folder {folder} does not exist; check the path {pattern!r}")
    for file in files:
        if os.path.isdir(file):
            raise InputError(f"{KEY}: {pattern!r} names the folder {file} beside files; name files, or one folder")
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        raise InputError(
            f"{KEY}: {len(missing)} of the {len(files)} files of {pattern!r} do not exist, the first is {missing[0]}"
        )
    return files


def _in_list(name: str) -> list[str]:
    """The tars that a text file lists, a line each, relative to it; any other name itself."""
    path = pathlib.Path(os.path.expanduser(name))
    if path.suffix.lower() not in (".txt", ".list", ".lst") or not path.is_file():
        return [name]
    with reading(f"{KEY}: {path}"), open(path, encoding="utf-8-sig", errors="replace") as file:
        if not file.readline().strip().endswith(".tar"):
            return [name]  # a table
        file.seek(0)
        lines = [line.strip() for line in file if line.strip()]
    return [line if is_remote(line) else str(path.parent / os.path.expanduser(line)) for line in lines]


def _named(path: pathlib.Path) -> list[pathlib.Path]:
    """The file; the tars in a folder; the files that fit a pattern. Names that start with a dot are no data."""
    if glob.has_magic(str(path)) and not os.path.exists(path):
        there = next(parent for parent in path.parents if parent.exists())  # its own name may hold brackets
        found = glob.glob(os.path.join(glob.escape(str(there)), path.relative_to(there)))
    elif os.path.isdir(path):
        found = path.glob("*.tar")
    else:
        return [path]
    files = sorted(file for file in map(pathlib.Path, found) if not file.name.startswith("."))
    if not files:
        hint = nested_folder.hint(path, lambda inner: any(inner.glob("*.tar"))) if path.is_dir() else ""
        raise InputError(
            f"{KEY}: {path} names no file; give a folder of tars or files, as in /data/{{00000..01242}}.tar{hint}"
        )
    return files
