"""One split of a prepared TensorFlow Datasets data set, by random access.

ArrayRecord files have an index of their records. TFRecord files, which TFDS writes by default, have none: where the
records of a file lie is found from their lengths when the file is first read, so that they are read in any order too.
"""

import bisect
import itertools
import os
import pathlib
import re
import struct
import threading
from collections.abc import Sequence
from typing import Any

from clippy_jax.datasets.open_files import OpenFiles
from clippy_jax.datasets.sample import BadSample, StorageAway
from clippy_jax.errors import InputError, reading

PREFIX = "tfds:"
_LENGTH = struct.Struct("<Q")
_HEADER = _LENGTH.size + 4  # bytes before a record: its length and a checksum
_FOOTER = 4  # a checksum


class TFDSSplit:
    """The examples of `tfds:NAME[:split]`, with their images encoded as they are in the files.

    Attributes:
      name: as it was given.
      split: its name.
      features: the data set's `FeaturesDict`.
    """

    def __init__(self, name: str, default_split: str):
        """Opens a data set that was prepared before (`tfds build NAME`).

        Raises:
          InputError: tensorflow_datasets is not installed, the name or split is unknown, not prepared or empty.
        """
        tfds = _tfds(name)
        # A version like "1.0.0" after a colon belongs to the name.
        data_set, split = re.fullmatch(r"tfds:(.*?)(?::([A-Za-z_].*))?", name).groups(default=default_split)
        self.name, self.split = name, split
        advice = (
            f"prepare it with `tfds build {data_set} --file_format=array_record` and TFDS_DATA_DIR set to where it lies"
        )
        with reading(repr(name), advice, "cannot be opened"):
            builder = tfds.builder(data_set)
            self.features = builder.info.features
            skip = {key: tfds.decode.SkipDecoding() for key in self.keys(tfds.features.Image)}
            try:
                self._examples = builder.as_data_source(split, decoders=skip)
            except NotImplementedError:  # no format with random access
                records = _TFRecords(builder.info.splits[split].file_instructions)
                self._examples = _Examples(records, self.features, skip)

    def keys(self, kind: type) -> list[str]:
        """The names of the features of a kind."""
        return [key for key, feature in self.features.items() if isinstance(feature, kind)]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The features of an example; thread-safe.

        Raises:
          BadSample: it is damaged, or its file was cut.
          StorageAway: its file cannot be read.
        """
        try:
            return self._examples[index]
        except (BadSample, StorageAway, MemoryError):
            raise
        except OSError as error:
            raise StorageAway(f"{self.name}: {error}") from error
        except Exception as error:  # the readers of the formats raise what they like
            raise BadSample("undecodable") from error


def voc_folder(name: str) -> pathlib.Path:
    """Where TFDS unpacked PASCAL VOC when it prepared `tfds:voc/YEAR`: its own files leave out the segmentation.

    Raises:
      InputError: it has another name, or was not prepared from the downloaded archive.
    """
    tfds = _tfds(name)
    year = re.fullmatch(r"tfds:voc/(\d{4})", name)
    if not year:
        raise InputError(f"{name!r} has no masks that can be read; of TFDS's data sets tfds:voc/2012 and voc/2007 have")
    with reading(repr(name), f"prepare it with `tfds build voc/{year[1]}`", "cannot be opened"):
        data_dir = tfds.builder(f"voc/{year[1]}").data_dir
    downloads = pathlib.Path(data_dir).parents[2] / "downloads" / "extracted"
    for folder in sorted(downloads.glob(f"*/VOCdevkit/VOC{year[1]}")):
        if (folder / "SegmentationClass").is_dir():
            return folder
    raise InputError(
        f"{name!r}: {downloads} holds no VOCdevkit/VOC{year[1]} with SegmentationClass; prepare it with "
        f"`tfds build voc/{year[1]}` and TFDS_DATA_DIR set to where it lies, or name an unpacked VOC{year[1]}"
    )


def _tfds(name: str) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # it may import TensorFlow
    try:
        import tensorflow_datasets  # here because only these data sets need it
    except ImportError:
        raise InputError(f"{name!r} needs the package tensorflow_datasets; pip install it") from None
    return tensorflow_datasets


class _Examples:
    """What `as_data_source` is for ArrayRecord files."""

    def __init__(self, records: "_TFRecords", features: Any, decoders: dict[str, Any]):
        self._records, self._features, self._decoders = records, features, decoders

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._features.deserialize_example_np(self._records[index], decoders=self._decoders)


class _TFRecords:
    """The records of parts of TFRecord files, one file after the other. Thread-safe."""

    def __init__(self, instructions: Sequence[Any]):
        """Takes TFDS's `FileInstruction`s: which file, how many records to skip, how many to take."""
        if not instructions:
            raise ValueError("it has no example")
        self._paths = [pathlib.Path(part.filename) for part in instructions]
        missing = [path for path in self._paths if not path.is_file()]
        if missing:
            raise FileNotFoundError(f"{missing[0]} does not exist")
        self._skips = [part.skip for part in instructions]
        self._ends = list(itertools.accumulate(part.take for part in instructions))
        self._files = OpenFiles(self._paths)
        self._starts: dict[int, list[int]] = {}  # by file, of its records, in bytes; and its end
        self._locks = [threading.Lock() for _ in instructions]

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> bytes:
        file = bisect.bisect_right(self._ends, index)
        record = index - (self._ends[file - 1] if file else 0) + self._skips[file]
        starts = self._starts.get(file) or self._find(file)
        if record + 1 >= len(starts):
            raise BadSample("truncated")
        start, end = starts[record] + _HEADER, starts[record + 1] - _FOOTER
        return self._files.read(file, start, end - start)

    def _find(self, file: int) -> list[int]:
        with self._locks[file]:
            if file not in self._starts:
                starts, size = [0], self._paths[file].stat().st_size
                while starts[-1] + _HEADER <= size:
                    (length,) = _LENGTH.unpack(self._files.read(file, starts[-1], _LENGTH.size))
                    if starts[-1] + _HEADER + length + _FOOTER > size:
                        break  # cut short
                    starts.append(starts[-1] + _HEADER + length + _FOOTER)
                self._starts[file] = starts
            return self._starts[file]
