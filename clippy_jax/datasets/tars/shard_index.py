"""The index of a WebDataset shard: where in the tar each sample's image and caption lie.

With it every sample of every shard is one positional read away, so the order of training is free, and a step's samples
follow from its number. An index is built once, by reading the tar's headers, and kept beside the shard (or in
`config.input.index_folder`) as `NAME.tar.index.npz`; it is built again when the shard's size or time has changed.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import pathlib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64
from tqdm import tqdm

from clippy_jax.datasets import file_kinds, image_file, patterns
from clippy_jax.datasets.patterns import File
from clippy_jax.datasets.remote_files import ReadAhead, RemoteFile
from clippy_jax.datasets.tars import tar_members
from clippy_jax.datasets.tars.tar_members import Gap, Member
from clippy_jax.errors import InputError, reading
from clippy_jax.whole_files import complete_or_nothing

IMAGE_EXTENSIONS = tuple(ending[1:] for ending in image_file.ENDINGS)
CAPTION_EXTENSION = "txt"
RECORD_EXTENSION = "json"  # what img2dataset notes of an image, which has the caption where there is no `txt`
_KINDS = (np.int64, np.int32) * 2  # of the arrays
_LARGEST = 2**31 - 1  # bytes of an image or a caption
_FORMAT = 3  # of the cached file; another number makes the cached ones stale
_LONGEST_NAME = 200  # bytes; file systems take 255, endings included
_THREADS = 16  # reading headers waits for the disk more than it computes


class ShardIndex(NamedTuple):
    """The complete samples of a shard, in its order, and how many were left out, by cause."""

    image_offsets: Int64[np.ndarray, "samples"]  # bytes
    image_lengths: Int32[np.ndarray, "samples"]
    caption_offsets: Int64[np.ndarray, "samples"]
    caption_lengths: Int32[np.ndarray, "samples"]
    left_out: dict[str, int]


def load_or_build(
    shards: Sequence[File], index_folder: str, process_index: int = 0, process_count: int = 1
) -> list[ShardIndex]:
    """The index of every shard; those that are not cached are built, in parallel, under a progress bar.

    Processes that share a file system share the work: process p starts with shards p, p + process_count, ..., and
    then builds only what the others have not cached by the time it gets there.

    Args:
      index_folder: where indexes are cached; "" for beside their shards, or in `default_folder()` for remote ones.

    Raises:
      InputError: a shard is no tar file, or an index cannot be written.
    """
    files = {shard: _index_file(shard, index_folder) for shard in shards}
    indexes = {shard: _read(shard, file) for shard, file in files.items()}
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


def build(shard: File) -> ShardIndex:
    """Reads the headers of a shard, by WebDataset's rule: what stands before the first dot of a name is the key.

    A key that comes again with a file of the same extension is another sample. What damage hides is left out, as
    "damaged" or "truncated"; one each at least. A sample that damage touches is counted once.

    Raises:
      InputError: it is no tar file.
    """
    samples: list[_Partial] = []
    newest: dict[str, _Partial] = {}  # by key
    damages: list[tuple[str, list[_Partial]]] = []  # the cause, and the samples before and after
    at_gap = False
    with opened(shard) as (read, size):
        for member in tar_members.members(read, size):
            if isinstance(member, Gap):
                at_gap = member is Gap.DAMAGED
                if member is Gap.END:
                    newest.clear()
                else:
                    damages.append((member.value, samples[-1:]))
                continue
            folder, _, name = member.name.rpartition("/")
            stem, dot, extension = name.partition(".")
            if not (stem and dot):  # what starts with a dot is no data: macOS leaves them everywhere
                continue
            key, extension = f"{folder}/{stem}", extension.lower()
            if key not in newest or extension in newest[key].extensions:
                newest[key] = _Partial()
                samples.append(newest[key])
            newest[key].add(extension, member)
            if at_gap:
                damages[-1][1].append(newest[key])
                at_gap = False
        kind = file_kinds.kind_of(read(0, file_kinds.BYTES))
    if not samples and damages:
        raise InputError(
            f"{patterns.KEY}: {shard} is no tar file but {kind or 'empty or something else'}; replace or leave it out"
        )

    left_out: Counter[str] = Counter()
    for cause, around in damages:
        incomplete = [sample for sample in around if sample.flaw]
        left_out[cause] += max(1, len(incomplete))
        for sample in incomplete:
            sample.counted = True
    for sample in samples:
        if sample.flaw and not sample.counted:
            left_out[sample.flaw] += max(1, sample.dotted)
    complete = [sample.place for sample in samples if not sample.flaw]
    columns = np.array(complete, np.int64).reshape(-1, 4).T
    return ShardIndex(*(column.astype(kind) for column, kind in zip(columns, _KINDS)), dict(left_out))


@contextlib.contextmanager
def opened(shard: File) -> Iterator[tuple[Callable[[int, int], bytes], int]]:
    """How stretches of a shard are read, by offset and length, and its size."""
    if isinstance(shard, RemoteFile):
        yield ReadAhead(shard, patterns.KEY), shard.size
    else:
        with open(shard, "rb", buffering=0) as file:
            yield lambda offset, length: os.pread(file.fileno(), length, offset), os.fstat(file.fileno()).st_size


@dataclasses.dataclass
class _Partial:
    """A sample of which some files have been seen."""

    extensions: set[str] = dataclasses.field(default_factory=set)
    image: Member | None = None
    caption: Member | None = None
    dotted: int = 0  # images called KEY.SOMETHING.jpg, which WebDataset does not take for the key's image
    counted: bool = False

    def add(self, extension: str, member: Member) -> None:
        self.extensions.add(extension)
        if extension in IMAGE_EXTENSIONS:
            self.image = self.image or member
        elif extension == CAPTION_EXTENSION:
            self.caption = member
        elif extension == RECORD_EXTENSION:
            self.caption = self.caption or member
        elif extension.rpartition(".")[2] in IMAGE_EXTENSIONS:
            self.dotted += 1

    @property
    def flaw(self) -> str:
        """Why it cannot be used, or "" where it is complete."""
        if not self.image:
            return "named with a second dot" if self.dotted else "imageless"
        if not self.caption or not self.caption.length:
            return "captionless"
        return "too large" if max(self.image.length, self.caption.length) > _LARGEST else ""

    @property
    def place(self) -> tuple[int, int, int, int]:
        return *self.image[1:], *self.caption[1:]


def default_folder() -> pathlib.Path:
    """Where the indexes of remote shards are kept if no folder is named."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(os.path.expanduser(cache), "clippy_jax", "shard_indexes")


def _index_file(shard: File, index_folder: str) -> pathlib.Path:
    if isinstance(shard, RemoteFile):
        return pathlib.Path(os.path.expanduser(index_folder or default_folder()), f"{shard.index_name}.index.npz")
    if not index_folder:
        return shard.with_name(f"{shard.name}.index.npz")
    flat = "-".join(shard.absolute().parts[1:])  # shards of several folders have the same names
    if len(os.fsencode(flat)) > _LONGEST_NAME:
        flat = f"{shard.name}-{hashlib.sha256(os.fsencode(flat)).hexdigest()[:16]}"
    return pathlib.Path(os.path.expanduser(index_folder), f"{flat}.index.npz")


def _make_writable(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"config.input.index_folder: cannot make {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"config.input.index_folder: cannot write to {folder}; name a folder for the shard indexes")


def _read_or_build(shard: File, file: pathlib.Path) -> ShardIndex:
    with reading(f"{patterns.KEY}: {shard}"):
        index = _read(shard, file)
        if index is None:
            signature = _signature(shard)
            index = build(shard)
            _write(index, signature, file)
        return index


def _signature(shard: File) -> tuple[int, int, int]:
    """What must be the same for a cached index to hold."""
    if isinstance(shard, RemoteFile):
        return _FORMAT, shard.size, shard.version
    with reading(f"{patterns.KEY}: {shard}"):
        status = shard.stat()
    return _FORMAT, status.st_size, status.st_mtime_ns


def _read(shard: File, file: pathlib.Path) -> ShardIndex | None:
    """The cached index, or None where it is missing, stale or damaged in any way: then it is built again."""
    try:
        with zipfile.ZipFile(file) as archive:  # what it says of its size decides how much is allocated
            if sum(part.file_size for part in archive.infolist()) > file.stat().st_size:
                return None
        with np.load(file) as stored:
            parts = {name: stored[name] for name in (*ShardIndex._fields[:4], "signature", "causes", "counts")}
    except Exception:  # NumPy and zipfile raise what they like: BadZipFile, struct.error, SyntaxError, MemoryError, ...
        return None
    columns = [parts[name] for name in ShardIndex._fields[:4]]
    signature = _signature(shard)
    if parts["signature"].tolist() != list(signature):
        return None
    if any(column.ndim != 1 or column.dtype != kind for column, kind in zip(columns, _KINDS)):
        return None
    if len({len(column) for column in columns}) > 1 or parts["causes"].shape != parts["counts"].shape:
        return None
    for offsets, lengths in zip(columns[::2], columns[1::2]):
        ends = offsets + lengths
        if len(ends) and (min(offsets.min(), lengths.min()) < 0 or max(offsets.max(), ends.max()) > signature[1]):
            return None
    return ShardIndex(*columns, dict(zip(parts["causes"].tolist(), parts["counts"].tolist())))


def _write(index: ShardIndex, signature: tuple[int, int, int], file: pathlib.Path) -> None:
    with complete_or_nothing(str(file), force=True) as temporary, open(temporary, "wb") as out:
        np.savez(
            out,
            signature=np.array(signature, np.int64),
            causes=np.array(list(index.left_out), np.str_),
            counts=np.array(list(index.left_out.values()), np.int64),
            **dict(zip(ShardIndex._fields[:4], index[:4])),
        )
