"""The index of a WebDataset shard: where in the tar each sample's image and caption lie.

With it every sample of every shard is one positional read away, so the order of training is free, and a step's samples
follow from its number. An index is built once, by reading the tar's headers, and kept beside the shard (or in
`config.input.index_folder`) as `NAME.tar.index.npz`; it is built again when the shard's size or time has changed.
"""

import concurrent.futures
import os
import pathlib
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64
from tqdm import tqdm

from clippy_jax.datasets import patterns
from clippy_jax.errors import InputError
from clippy_jax.whole_files import complete_or_nothing

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
CAPTION_EXTENSION = "txt"
_FORMAT = 1  # of the cached file; another number makes the cached ones stale
_THREADS = 16  # reading headers waits for the disk more than it computes


class ShardIndex(NamedTuple):
    """The complete samples of a shard, in its order, and how many were left out, by cause."""

    image_offsets: Int64[np.ndarray, "samples"]  # bytes
    image_lengths: Int32[np.ndarray, "samples"]
    caption_offsets: Int64[np.ndarray, "samples"]
    caption_lengths: Int32[np.ndarray, "samples"]
    left_out: dict[str, int]


def load_or_build(
    shards: Sequence[pathlib.Path], index_folder: str, process_index: int = 0, process_count: int = 1
) -> list[ShardIndex]:
    """The index of every shard; those that are not cached are built, in parallel, under a progress bar.

    Processes that share a file system share the work: process p starts with shards p, p + process_count, ..., and
    then builds only what the others have not cached by the time it gets there.

    Args:
      index_folder: where indexes are cached; "" for beside their shards.

    Raises:
      InputError: a shard is no tar file, or an index cannot be written.
    """
    files = {shard: _index_file(shard, index_folder) for shard in shards}
    indexes = {shard: _read(shard, files[shard]) for shard in shards}
    missing = [shard for shard in shards if indexes[shard] is None]
    for folder in {files[shard].parent for shard in missing}:
        _make_writable(folder)

    turns = [(process_index + turn) % process_count for turn in range(process_count)]
    order = [shard for first in turns for shard in missing[first::process_count]]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        built = {pool.submit(_read_or_build, shard, files[shard]): shard for shard in order}
        bar = tqdm(total=len(order), desc="indexing shards", unit="shard", disable=not order)
        try:
            for future in concurrent.futures.as_completed(built):
                indexes[built[future]] = future.result()
                bar.update()
        finally:
            bar.close()
            pool.shutdown(cancel_futures=True)
    return [indexes[shard] for shard in shards]


def build(shard: pathlib.Path) -> ShardIndex:
    """Reads the headers of a shard. Of a truncated one, the complete samples are kept.

    Raises:
      InputError: it is no tar file.
    """
    images: dict[str, tuple[int, int]] = {}  # offset and length by key, as of the captions
    captions: dict[str, tuple[int, int]] = {}
    keys: dict[str, None] = {}  # of all samples, in order
    members = _Members(shard)
    for member in members:
        folder, _, name = member.name.rpartition("/")
        stem, _, extension = name.partition(".")
        key = f"{folder}/{stem}"
        keys[key] = None
        if extension.lower() in IMAGE_EXTENSIONS:
            images.setdefault(key, (member.offset_data, member.size))
        elif extension.lower() == CAPTION_EXTENSION:
            captions.setdefault(key, (member.offset_data, member.size))

    if not keys:
        raise InputError(
            f"{patterns.KEY}: {shard} is no tar file (empty, compressed or something else); replace or leave it out"
        )

    left_out: Counter[str] = Counter()
    complete = []
    last = next(reversed(keys), None)
    for key in keys:
        captioned = key in captions and captions[key][1] > 0
        if key in images and captioned:
            complete.append((*images[key], *captions[key]))
        elif members.truncated and key == last:
            left_out["truncated"] += 1
        else:
            left_out["captionless" if key in images else "imageless"] += 1
    columns = np.array(complete, np.int64).reshape(-1, 4).T
    return ShardIndex(*(column.astype(kind) for column, kind in zip(columns, (np.int64, np.int32) * 2)), dict(left_out))


class _Members:
    """The regular files of a tar archive, in order, from its headers alone.

    Attributes:
      truncated: known after the last one; whether the archive ends, or goes wrong, in the middle of a member.
    """

    def __init__(self, shard: pathlib.Path):
        self._shard = shard
        self.truncated = False

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        size = self._shard.stat().st_size
        with open(self._shard, "rb", buffering=0) as file:
            try:
                tar = tarfile.open(fileobj=file, mode="r:")
                while (member := tar.next()) is not None:
                    tar.members.clear()
                    if member.size < 0 or member.offset_data + member.size > size:
                        raise tarfile.ReadError("a member beyond the end")
                    if member.isreg() and not member.issparse():
                        yield member
                self.truncated = os.pread(file.fileno(), tarfile.BLOCKSIZE, tar.offset).strip(b"\0") != b""
            except tarfile.TarError:
                self.truncated = True


def _index_file(shard: pathlib.Path, index_folder: str) -> pathlib.Path:
    if not index_folder:
        return shard.with_name(f"{shard.name}.index.npz")
    flat = "-".join(shard.absolute().parts[1:])  # shards of several folders have the same names
    return pathlib.Path(index_folder).expanduser() / f"{flat}.index.npz"


def _make_writable(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"config.input.index_folder: cannot make {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"config.input.index_folder: cannot write to {folder}; name a folder for the shard indexes")


def _read_or_build(shard: pathlib.Path, file: pathlib.Path) -> ShardIndex:
    index = _read(shard, file)
    if index is None:
        signature = _signature(shard)
        index = build(shard)
        _write(index, signature, file)
    return index


def _signature(shard: pathlib.Path) -> tuple[int, int, int]:
    """What must be the same for a cached index to hold."""
    status = shard.stat()
    return _FORMAT, status.st_size, status.st_mtime_ns


def _read(shard: pathlib.Path, file: pathlib.Path) -> ShardIndex | None:
    """The cached index, or None if there is none that holds."""
    try:
        with np.load(file) as stored:
            if tuple(stored["signature"].tolist()) != _signature(shard):
                return None
            left_out = dict(zip(stored["causes"].tolist(), stored["counts"].tolist()))
            return ShardIndex(*(stored[name] for name in ShardIndex._fields[:4]), left_out)
    except (OSError, ValueError, KeyError, EOFError):
        return None


def _write(index: ShardIndex, signature: tuple[int, int, int], file: pathlib.Path) -> None:
    with complete_or_nothing(str(file), force=True) as temporary, open(temporary, "wb") as out:
        np.savez(
            out,
            signature=np.array(signature, np.int64),
            causes=np.array(list(index.left_out), np.str_),
            counts=np.array(list(index.left_out.values()), np.int64),
            **dict(zip(ShardIndex._fields[:4], index[:4])),
        )
