"""Positional reads from many files."""

import os
import pathlib
import resource
import threading
from collections.abc import Sequence

from clippy_jax.datasets.sample import BadSample


class OpenFiles:
    """Positional, thread-safe reads from many files, of which as many stay open as the system allows."""

    def __init__(self, paths: Sequence[pathlib.Path]):
        self._paths = paths
        self._open: dict[int, int] = {}
        self._lock = threading.Lock()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = len(paths) + 512  # the rest of the program opens files as well
        if soft != resource.RLIM_INFINITY and soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self._capacity = len(paths) if soft == resource.RLIM_INFINITY else max(0, soft - 512)

    def read(self, index: int, offset: int, length: int) -> bytes:
        """Reads a stretch of one file; raises BadSample where it is gone."""
        try:
            file = self._open.get(index)
            if file is not None:
                content = os.pread(file, length, offset)
            else:
                content = self._read_unopened(index, offset, length)
        except OSError as error:
            raise BadSample("unreadable") from error
        if len(content) < length:
            raise BadSample("unreadable")
        return content

    def _read_unopened(self, index: int, offset: int, length: int) -> bytes:
        with self._lock:
            if index not in self._open and len(self._open) < self._capacity:
                self._open[index] = os.open(self._paths[index], os.O_RDONLY | os.O_CLOEXEC)
            file = self._open.get(index)
        if file is not None:
            return os.pread(file, length, offset)
        with open(self._paths[index], "rb", buffering=0) as unkept:
            return os.pread(unkept.fileno(), length, offset)

    def __del__(self):
        for file in self._open.values():
            os.close(file)
