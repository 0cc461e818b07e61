"""Reads from many files, on storage that may be away for a moment.

What cannot be read now raises `StorageAway`, and whoever asked tries again later; so a batch never depends on the time
at which it was made. Only an image file of a table can be missing for good: then its sample is bad.
"""

import errno
import os
import pathlib
import resource
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from absl import logging

from clippy_jax.datasets.sample import BadSample, StorageAway
from clippy_jax.errors import InputError

# Errors that say something about one file; all others are the storage's.
_OF_ONE_FILE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EINVAL, errno.ENXIO),
}
_FOR_THE_REST = 512  # files that the rest of the program may open

T = TypeVar("T")


def wait_for_storage(read: Callable[[], T], seconds: float, ended: threading.Event | None = None) -> T:
    """What `read` returns; where it raises `StorageAway` it is called again, after growing pauses.

    Args:
      read: may be called several times.
      seconds: how long to try.
      ended: set by somebody else when the result is no longer wanted.

    Raises:
      InputError: the storage is away for longer.
    """
    ended = ended or threading.Event()
    pause, deadline = 0.1, time.monotonic() + seconds
    while True:
        try:
            return read()
        except StorageAway as away:
            if ended.is_set() or time.monotonic() + pause > deadline:
                tried = f"{seconds / 60:.0f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"
                raise InputError(f"{away}; tried for {tried}; start again when it can be read") from away
            logging.log_every_n_seconds(logging.WARNING, "%s; trying again", 60, away)
            ended.wait(pause)
            pause = min(1.5 * pause, 15.0)


def read_whole(path: str, root: pathlib.Path) -> bytes:
    """Reads a file; raises `BadSample` where it is missing or not readable although `root` is there."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except ValueError as error:  # a path with NUL in it
        raise BadSample("missing") from error
    except OSError as error:
        if error.errno in _OF_ONE_FILE and root.exists():
            raise BadSample("missing") from error
        raise StorageAway(f"{path} cannot be read: {error.strerror}") from error


class OpenFiles:
    """Positional, thread-safe reads from many files, of which as many stay open as the system allows."""

    def __init__(self, paths: Sequence[pathlib.Path], sizes: Sequence[int] | None = None):
        """Opens nothing yet.

        Args:
          sizes: of the files in bytes, if they are known; a file of another size has been replaced.
        """
        self._paths = paths
        self._sizes = sizes
        self._open: dict[int, int] = {}  # descriptors by index
        self._lost: list[int] = []  # and those that nobody shall take any more
        self._lock = threading.Lock()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft not in (resource.RLIM_INFINITY, hard):
            wanted = max(soft, _FOR_THE_REST) + len(paths)  # so many more: other data sets have theirs open as well
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def read(self, index: int, offset: int, length: int) -> bytes:
        """Reads a stretch of one file; raises `StorageAway` where that fails."""
        try:
            file = self._open.get(index)
            content = os.pread(file, length, offset) if file is not None else self._read_unopened(index, offset, length)
        except OSError as error:
            self._forget(index)  # a file that a server has lost stays lost until it is opened again
            raise StorageAway(f"{self._paths[index]} cannot be read: {error.strerror}") from error
        if len(content) < length:
            self._forget(index)
            raise StorageAway(f"{self._paths[index]} has become shorter")
        return content

    def _read_unopened(self, index: int, offset: int, length: int) -> bytes:
        file = self._opened(index)
        try:
            return os.pread(file, length, offset)
        finally:
            with self._lock:
                stays = index not in self._open and _leaves_room(file)
                if stays:
                    self._open[index] = file
            if not stays:
                os.close(file)

    def _opened(self, index: int) -> int:
        file = os.open(self._paths[index], os.O_RDONLY | os.O_CLOEXEC)
        size = os.fstat(file).st_size
        if self._sizes is not None and size != self._sizes[index]:
            os.close(file)
            raise StorageAway(f"{self._paths[index]} has {size:,} bytes and had {self._sizes[index]:,} at the start")
        return file

    def _forget(self, index: int) -> None:
        """Has a file opened anew at the next read. Its descriptor is kept: another thread may be reading from it."""
        with self._lock:
            if index in self._open:
                self._lost.append(self._open.pop(index))

    def __del__(self):
        for file in (*self._open.values(), *self._lost):
            os.close(file)


def _leaves_room(file: int) -> bool:
    """Whether the rest of the program can still open files: a new descriptor is the lowest number that is free."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft == resource.RLIM_INFINITY or file < soft - _FOR_THE_REST
