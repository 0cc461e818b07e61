"""WebDataset tar shards as a source: one positional read for an image, one for its caption."""

import bisect
import pathlib
import tarfile
from collections.abc import Sequence

import numpy as np

from clippy_jax.datasets import shard_index
from clippy_jax.datasets.open_files import OpenFiles
from clippy_jax.datasets.sample import BadCounts, Sample, StorageAway

_LONGEST_CAPTION = 2**16  # bytes that are read of one; no text tower takes in more


class ShardSource:
    """All samples of tar shards as img2dataset writes them, in the order of the shards."""

    def __init__(
        self, shards: Sequence[pathlib.Path], index_folder: str = "", process_index: int = 0, process_count: int = 1
    ):
        """Loads or builds the index of every shard; raises InputError as `shard_index.load_or_build` does."""
        indexes = shard_index.load_or_build(shards, index_folder, process_index, process_count)
        self.left_out = BadCounts()
        for shard, index in zip(shards, indexes):
            for cause, count in index.left_out.items():
                self.left_out.note(cause, shard, count)
        self._shards = shards
        self._files = OpenFiles(shards, [shard.stat().st_size for shard in shards])
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
        caption_length = min(int(self._caption_lengths[index]), _LONGEST_CAPTION)
        caption = self._files.read(shard, int(self._caption_offsets[index]), caption_length)
        return Sample(image, caption.decode("utf-8", "replace"))

    def name(self, index: int) -> str:
        """The shard and the image in it, by its header, which stands before it; a very long name is cut."""
        shard, offset = bisect.bisect_right(self._ends, index), int(self._image_offsets[index])
        try:
            header = self._files.read(shard, offset - tarfile.BLOCKSIZE, tarfile.LENGTH_NAME)
        except StorageAway:
            return f"{self._shards[shard]} at byte {offset:,}"
        return f"{self._shards[shard]}: {header.split(bytes(1))[0].decode('utf-8', 'replace')}"
