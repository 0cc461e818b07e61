"""Whether a run can write to its folder: from the start, and as long as it goes on.

Disks become full or read-only, and folders are deleted or unmounted, while a run goes on. Whichever of its writers
(checkpoints, figures, TensorBoard, ledger) meets that first raises an exception of its own kind, or none: a file that
is open takes lines after it was deleted. So the run looks at the folder itself, before a figure is told and before and
after a state is saved, and whatever is raised while the folder cannot be written is told as that.
"""

import contextlib
import os
from collections.abc import Iterator

import jax
from etils import epath

from clippy_jax.errors import InputError
from clippy_jax.whole_files import writing

_PROBE = b"\0" * 4096  # bytes, since a full disk still has room for a name


def make_workdir(workdir: epath.PathLike) -> None:
    """Makes the folder of a run unless it is there; raises `InputError` where it cannot be written.

    Every process calls it.
    """
    folder = epath.Path(workdir)
    with writing(f"--workdir={folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        _try_to_write(folder)


def check_workdir(workdir: epath.PathLike) -> None:
    """Raises `InputError` where the folder that a run has prepared is gone, another one or not to be written any more.

    Every process may call it at any time; the first one looks, since others may see what it has written only later.
    """
    if jax.process_index() == 0:
        _check(epath.Path(workdir))


@contextlib.contextmanager
def ending_in_one_line(workdir: epath.PathLike) -> Iterator[None]:
    """Surrounds what a run does in its folder, once this is prepared.

    Raises:
      InputError: the folder is not, or no longer, there to be written when the block ends, however it ends.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # libraries raise what they like where they cannot write
        _check(epath.Path(workdir), error)
        raise
    check_workdir(workdir)


def _check(folder: epath.Path, cause: Exception | None = None) -> None:
    with writing(f"--workdir={folder}", "; see to it and start the same command again", cause):
        if not (folder / "config.json").exists():  # a folder that a library has made anew lacks it
            raise FileNotFoundError("it was deleted or replaced while the run went on")
        if "://" not in os.fspath(folder):  # object stores do not become read-only, and take long to answer
            _try_to_write(folder)


def _try_to_write(folder: epath.Path) -> None:
    probe = folder / f".writable.{jax.process_index()}"
    try:
        probe.write_bytes(_PROBE)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
