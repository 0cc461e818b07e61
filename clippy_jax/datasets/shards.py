"""WebDataset tar shards as a source: one positional read for an image, one for its caption."""

import bisect
import os
import pathlib
import resource
import threading
from collections import Counter
from collections.abc import Sequence

import numpy as np

from clippy_jax.datasets import shard_index
from clippy_jax.datasets.sample import BadSample, Sample


class ShardSource:
    """All samples of tar shards as img2dataset writes them, in the order of the shards."""

    def __init__(
        self, shards: Sequence[pathlib.Path], index_folder: str = "", process_index: int = 0, process_count: int = 1
    ):
        """Loads or builds the index of every shard; raises InputError as `shard_index.load_or_build` does."""
        indexes = shard_index.load_or_build(shards, index_folder, process_index, process_count)
        self.left_out: dict[str, int] = dict(sum((Counter(index.left_out) for index in indexes), Counter()))
        self._files = _OpenFiles(shards)
        self._ends = np.cumsum([len(index.image_offsets) for index in indexes]).tolist()
        self._image_offsets = np.concatenate([index.image_offsets for index in indexes])
        self._image_lengths = np.concatenate([index.image_lengths for index in indexes])
        self._caption_offsets = np.concatenate([index.caption_offsets for index in indexes])
        self._caption_lengths = np.concatenate([index.caption_lengths for index in indexes])

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        shard = bisect.bisect_right(self._ends, index)
        image = self._files.read(shard, int(self._image_offsets[index]), int(self._image_lengths[index]))
        caption = self._files.read(shard, int(self._caption_offsets[index]), int(self._caption_lengths[index]))
        return Sample(image, caption.decode("utf-8", "replace"))


class _OpenFiles:
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
