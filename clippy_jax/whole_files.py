"""Output that appears under its name only when it is complete."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from clippy_jax.errors import InputError


@contextlib.contextmanager
def complete_or_nothing(path: str, force: bool) -> Iterator[str]:
    """Yields a temporary name beside `path` for a file or a folder; renames it when the block ends well.

    Whatever goes wrong in the block, nothing stays behind, and what was at `path` before is as it was.

    Args:
      path: where the output shall be.
      force: replace what is there.

    Raises:
      InputError: something is there and `force` is not set, or writing fails (full disk, missing rights).
    """
    target = Path(path)
    check_output(path, force)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.incomplete")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield str(temporary)
        _replace(temporary, target)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}; nothing was left there") from None
    finally:
        _remove(temporary)


def check_output(path: str, force: bool) -> None:
    """Raises `InputError` if `complete_or_nothing` would refuse a path, for a look before long work."""
    if os.path.lexists(path) and not force:
        raise InputError(f"{path} exists already; choose another --output, or pass --force to replace it")


def _replace(temporary: Path, target: Path) -> None:
    if not (target.is_dir() or temporary.is_dir()):
        temporary.replace(target)
        return
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex}.replaced")
    if os.path.lexists(target):
        target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        if os.path.lexists(old):
            old.rename(target)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
