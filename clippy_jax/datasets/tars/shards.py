"""WebDataset tar shards as a source: one positional read for an image, one for its caption.

Of remote shards the stretches of many samples are read at the same time, an image with the caption that follows it.
"""

import bisect
import copy
import hashlib
import json
import re
import tarfile
from collections.abc import Sequence

import numpy as np

from clippy_jax.datasets import table_rows
from clippy_jax.datasets.open_files import OpenFiles
from clippy_jax.datasets.patterns import File
from clippy_jax.datasets.remote_files import RemoteFile, RemoteFiles
from clippy_jax.datasets.sample import BadCounts, Sample, Source, StorageAway
from clippy_jax.datasets.tars import shard_index

_OBJECT = re.compile(r'\{\s*["}]')  # how one begins in JSON
_LONGEST_CAPTION = 2**16  # bytes that are read of one; no text tower takes in more
_GAP = 2**16  # bytes between an image and its caption that are read, too, to ask a store once


class ShardSource(Source):
    """All samples of tar shards as img2dataset writes them, in the order of the shards."""

    def __init__(self, shards: Sequence[File], index_folder: str = "", process_index: int = 0, process_count: int = 1):
        """Loads or builds the index of every shard, all local or all remote.

        Raises:
          InputError: as `shard_index.load_or_build` does.
        """
        indexes = shard_index.load_or_build(shards, index_folder, process_index, process_count)
        self.left_out = BadCounts()
        for shard, index in zip(shards, indexes):
            for cause, count in index.left_out.items():
                self.left_out.note(cause, shard, count)
        self._shards = shards
        self._remote = RemoteFiles(shards) if isinstance(shards[0], RemoteFile) else None
        self._files = self._remote or OpenFiles(shards, [shard.stat().st_size for shard in shards])
        self._ends = np.cumsum([len(index.image_offsets) for index in indexes]).tolist()
        self._image_offsets = np.concatenate([index.image_offsets for index in indexes])
        self._image_lengths = np.concatenate([index.image_lengths for index in indexes])
        self._caption_offsets = np.concatenate([index.caption_offsets for index in indexes])
        self._caption_lengths = np.concatenate([index.caption_lengths for index in indexes])

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        if self._remote:
            return self.read_ahead([index])[index]
        image, caption = (self._files.read(*stretch) for stretch in self._stretches(index))
        return Sample(image, _caption(caption))

    def read_ahead(self, indices: Sequence[int]) -> dict[int, Sample]:
        """As `Source` does: those of remote shards."""
        if not self._remote:
            return {}
        wanted: list[tuple[int, int, int]] = []
        parts: dict[int, list[slice]] = {}  # of what is read in one stretch: the image and the caption
        for index in indices:
            (shard, *image), (_, *caption) = self._stretches(index)
            start, end = min(image[0], caption[0]), max(sum(image), sum(caption))
            if end - start <= image[1] + caption[1] + _GAP:
                wanted.append((shard, start, end - start))
                parts[index] = [slice(first - start, first - start + length) for first, length in (image, caption)]
            else:
                wanted += [(shard, *image), (shard, *caption)]
        read, samples = iter(self._remote.read_all(wanted)), {}
        for index in indices:
            content = next(read)
            image, caption = [content[part] for part in parts[index]] if index in parts else (content, next(read))
            samples[index] = Sample(image, _caption(caption))
        return samples

    def _stretches(self, index: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Shard, offset and length of a sample's image and of what is read of its caption."""
        shard = bisect.bisect_right(self._ends, index)
        caption_length = min(int(self._caption_lengths[index]), _LONGEST_CAPTION)
        return (
            (shard, int(self._image_offsets[index]), int(self._image_lengths[index])),
            (shard, int(self._caption_offsets[index]), caption_length),
        )

    def images_digest(self) -> str:
        """As `Source` does: by the bytes that each image has."""
        return hashlib.sha256(self._image_lengths.tobytes()).hexdigest()

    def without_images(self) -> "ShardSource":
        """As `Source` does: of an image no bytes are read, from where its caption lies."""
        captions = copy.copy(self)
        captions._image_offsets, captions._image_lengths = self._caption_offsets, np.zeros_like(self._image_lengths)
        captions.name = self.name  # which is the image's
        return captions

    def name(self, index: int) -> str:
        """The shard and the image in it, by its header, which stands before it; a very long name is cut."""
        shard, offset = bisect.bisect_right(self._ends, index), int(self._image_offsets[index])
        try:
            header = self._files.read(shard, offset - tarfile.BLOCKSIZE, tarfile.LENGTH_NAME)
        except StorageAway:
            return f"{self._shards[shard]} at byte {offset:,}"
        return f"{self._shards[shard]}: {header.split(bytes(1))[0].decode('utf-8', 'replace')}"


def _caption(content: bytes) -> str:
    """The text of a `txt` file, or what a `json` file says of its caption: "" where it says nothing."""
    text = content.decode("utf-8", "replace")
    if not _OBJECT.match(text):
        return text
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):  # damaged, or longer than is read
        return ""
    fields = [record[name] for name in table_rows.CAPTION_COLUMNS if name in record]
    return next((captions[0] for field in fields if (captions := table_rows.captions_in(field))), "")
