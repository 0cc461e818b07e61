"""From `config.input.train` to the files it names."""

import pathlib
import re

from braceexpand import UnbalancedBracesError, braceexpand

from clippy_jax.errors import InputError

KEY = "config.input.train"  # what the messages call it
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)(?:\.\.-?\d+)?\}")


def expand_files(pattern: str) -> list[pathlib.Path]:
    """The files that a path with braces names, as in `/data/cc12m/{00000..01242}.tar`; each is there.

    Raises:
      InputError: a brace range is empty or unfinished, a folder or a file is missing.
    """
    if "://" in pattern:
        raise InputError(f"{KEY}: {pattern!r} is a remote address; copy or mount the files and give their local path")
    for whole, first, last in ((match[0], match[1], match[2]) for match in _RANGE.finditer(pattern)):
        if int(last) < int(first):
            raise InputError(f"{KEY}: the range {whole} in {pattern!r} is empty; write the smaller number first")
    try:
        names = list(braceexpand(pattern))
    except UnbalancedBracesError:
        names = [pattern]
    if any("{" in name or "}" in name for name in names):
        raise InputError(f"{KEY}: the braces in {pattern!r} hold no range; write them as {{00000..01242}}")

    files = [pathlib.Path(name).expanduser() for name in names]
    for folder in dict.fromkeys(file.parent for file in files):
        if not folder.is_dir():
            raise InputError(f"{KEY}: the folder {folder} does not exist; check the path {pattern!r}")
    missing = [file for file in files if not file.exists()]
    if missing:
        raise InputError(
            f"{KEY}: {len(missing)} of the {len(files)} files of {pattern!r} do not exist, the first is {missing[0]}"
        )
    for file in files:
        if not file.is_file():
            raise InputError(f"{KEY}: {file} is a folder; name the files in it, as in {file}/{{00000..01242}}.tar")
    return files
