"""One line where a checkpoint cannot be written: a full disk, missing rights, a folder that has gone.

Orbax works in threads of its own and TensorStore in more. When storage fails, each of them prints what it was doing,
hundreds of lines in all, and the same is raised where the training waits for it: that one is told.
"""

import contextlib
import functools
import logging as python_logging
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import jax
from absl import logging
from etils import epath

from clippy_jax.errors import InputError

_LOOKS, _SECONDS_BETWEEN_LOOKS = 30, 0.1
_LOOKS_WITHOUT = 5  # in a row, until nothing is thought to come any more
_UNFINISHED = "*.orbax-checkpoint-tmp*"
_OF_A_CHECKPOINT = re.compile("tensorstore_spec|orbax-checkpoint")
# What TensorStore says of the operating system: "... : No space left on device [os_error_code='28']".
_SYSTEM_ERROR = re.compile(r"([^:\[\]]+) \[[^\]]*os_error_code=")
# What TensorStore and Orbax say where they miss files that they have just written.
_GONE = re.compile(r"NOT_FOUND: Error|No ArrayMetadata found")


def check_room(folder: epath.Path, step: int, state: Any) -> None:
    """Raises `InputError` where the disk has no room for a checkpoint, before it is begun.

    Args:
      folder: of the checkpoints.
      step: of the state.
      state: what is to be saved. Compression makes it smaller, by too little to count on.
    """
    if "://" in str(folder):
        return  # object stores have no end
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    with telling(folder, step):
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise _not_written(folder, step, f"{_size(needed)} are needed and {_size(free)} are free")


@contextlib.contextmanager
def telling(folder: epath.Path, step: int | None) -> Iterator[None]:
    """Turns an exception about storage into an `InputError` and removes what was begun; any other one passes.

    Args:
      folder: of the checkpoints.
      step: that is being saved; None where only the end of a save is waited for.
    """
    try:
        yield
    except Exception as error:
        reason = _of_storage(error)
        if not reason:
            raise
        # For what is left unfinished as Python ends.
        sys.unraisablehook = lambda _: None
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        if jax.process_index() == 0:
            _remove_unfinished(folder)
        raise _not_written(folder, step, reason) from error


@functools.cache
def keep_quiet() -> None:
    """Has Orbax and TensorStore raise what goes wrong, and not print it as well, from now on."""
    hook = sys.unraisablehook

    def unless_nobody_waits(unraisable) -> None:  # for what another part's failure has left under way
        of_orbax = "/orbax/" in getattr(getattr(unraisable.object, "cr_code", None), "co_filename", "")
        if not of_orbax and "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    sys.unraisablehook = unless_nobody_waits
    logging.get_absl_logger().addFilter(lambda record: "/orbax/" not in record.pathname)
    python_logging.getLogger("asyncio").addFilter(lambda record: not _OF_A_CHECKPOINT.search(record.getMessage()))


def _remove_unfinished(folder: epath.Path) -> None:
    """Removes what was begun, again where writes that are still under way have made it anew."""
    looks_without = 0
    for _ in range(_LOOKS):
        unfinished = list(folder.glob(_UNFINISHED)) if folder.exists() else []
        for path in unfinished:
            with contextlib.suppress(OSError):
                path.rmtree()
        looks_without = 0 if unfinished else looks_without + 1
        if looks_without == _LOOKS_WITHOUT:
            return
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _of_storage(error: BaseException) -> str:
    """What the system says where an exception comes from storage, else ""."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.strerror
        if found := _SYSTEM_ERROR.search(str(error)):
            return found[1].strip()
        if _GONE.search(str(error)):
            return "files were deleted while it was written"
        error = error.__cause__ or error.__context__
    return ""


def _not_written(folder: epath.Path, step: int | None, reason: str) -> InputError:
    what = "a checkpoint" if step is None else f"the checkpoint of step {step}"
    return InputError(
        f"{folder}: {what} cannot be written: {reason}; see to it and start the same command again, "
        "which goes on after the newest one there"
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"
