"""Files and folders that appear under their names only when they are complete, on a disk or remote (`gs://...`)."""

import contextlib
import os
import uuid
from collections.abc import Iterator

from etils import epath

from clippy_jax.errors import InputError


@contextlib.contextmanager
def complete_or_nothing(path: epath.PathLike, force: bool) -> Iterator[str]:
    """Yields a temporary name beside `path` for a file or a folder; renames it when the block ends well.

    Whatever goes wrong in the block, nothing stays behind, and what was at `path` before is as it was.

    Args:
      path: where the output shall be.
      force: replace what is there.

    Raises:
      InputError: something is there and `force` is not set, a folder is there and a file was written, or writing fails
        (full disk, missing rights).
    """
    target = epath.Path(path)
    check_output(path, force)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.incomplete"
    try:
        with writing(path, "; nothing was left there"):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield os.fspath(temporary)
            _replace(temporary, target)
    finally:
        _remove(temporary)


@contextlib.contextmanager
def writing(what: object, more: str = "", cause: BaseException | None = None) -> Iterator[None]:
    """Turns what the operating system refuses inside into one line; anything else passes.

    Args:
      what: the file, folder or flag, as the message names it.
      more: what the message ends with.
      cause: the exception in whose handling this happens, if there is one.

    Raises:
      InputError: an `OSError` was raised inside.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{what} cannot be written: {error.strerror or error}{more}") from cause


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes a file or replaces it, completely or not at all; raises `InputError` where that fails."""
    with complete_or_nothing(path, force=True) as temporary:
        epath.Path(temporary).write_text(text)


def check_output(path: epath.PathLike, force: bool) -> None:
    """Raises `InputError` if `complete_or_nothing` would refuse a path, for a look before long work."""
    if _exists(epath.Path(path)) and not force:
        raise InputError(f"{path} exists already; choose another --output, or pass --force to replace it")


def _replace(temporary: epath.Path, target: epath.Path) -> None:
    if not temporary.is_dir():
        if target.is_dir():  # which a name given by mistake would cost, with all that it holds
            raise InputError(f"{target} is a folder, and is left as it is; give the name of a file")
        temporary.replace(target)
        return
    old = target.parent / f".{target.name}.{uuid.uuid4().hex}.replaced"
    if _exists(target):
        target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        if _exists(old):
            old.rename(target)
        raise
    _remove(old)


def _remove(path: epath.Path) -> None:
    if path.is_dir() and not os.path.islink(path):
        path.rmtree()
    elif _exists(path):
        path.unlink()


def _exists(path: epath.Path) -> bool:
    return path.exists() or os.path.islink(path)  # a link to nothing is something, too
