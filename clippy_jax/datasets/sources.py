"""From `config.input.train` to an open source; one of them is made here, of random images."""

import itertools

import numpy as np

from clippy_jax.config import InputConfig
from clippy_jax.datasets import patterns
from clippy_jax.datasets.remote_files import is_remote
from clippy_jax.datasets.sample import BadCounts, Concatenation, Sample, Source
from clippy_jax.datasets.tables import TableSource
from clippy_jax.datasets.tars.shards import ShardSource
from clippy_jax.datasets.tfds.pairs import TFDSSource
from clippy_jax.datasets.tfds.split import PREFIX as TFDS_PREFIX
from clippy_jax.errors import InputError

SYNTHETIC = "synthetic"
_SAMPLES = 1_000_000
_IMAGES = 64
_WORDS = ("red", "green", "small", "large", "apple", "zebra", "lemon", "grass", "water", "brick", "photo", "star")


def open_source(config: InputConfig, process_index: int = 0, process_count: int = 1) -> Source:
    """Opens the data sets that `config.train` names, one after the other where several are joined by "::".

    All files are looked up before the first index is built.

    Raises:
      InputError: a name, a pattern or a file is wrong.
    """
    parts = [part.strip() for part in config.train.split("::")]
    if not all(parts):
        raise InputError(f"{patterns.KEY} is {config.train!r}; give a tar pattern, a table, tfds:NAME or {SYNTHETIC}")
    files = {part: patterns.expand_files(part) for part in parts if not _is_named(part)}

    columns = config.image_column, config.caption_column
    sources: list[Source] = []
    for part in parts:
        if part == SYNTHETIC:
            sources.append(SyntheticSource(config.image_size))
        elif part.startswith(TFDS_PREFIX):
            sources.append(TFDSSource(part))
        else:
            for is_table, group in itertools.groupby(files[part], _is_table):
                if is_table and is_remote(part):
                    raise InputError(f"{patterns.KEY}: {part!r} is remote; tars are read from there, tables from disks")
                if is_table:
                    sources.extend(TableSource(table, *columns) for table in group)
                else:
                    sources.append(ShardSource(list(group), config.index_folder, process_index, process_count))
    return sources[0] if len(sources) == 1 else Concatenation(sources)


def _is_named(part: str) -> bool:
    return part == SYNTHETIC or part.startswith(TFDS_PREFIX)


def _is_table(file: patterns.File) -> bool:
    return file.suffix.lower() != ".tar"


class SyntheticSource(Source):
    """A million samples made of a few random images, uncompressed, and captions of three to ten words."""

    def __init__(self, image_size: int):
        self.left_out = BadCounts()
        random = np.random.default_rng(0)
        header = f"P6 {image_size} {image_size} 255\n".encode()  # Portable Pixmap
        self._images = [header + random.bytes(image_size * image_size * 3) for _ in range(_IMAGES)]

    def __len__(self) -> int:
        return _SAMPLES

    def __getitem__(self, index: int) -> Sample:
        words = (_WORDS[(index // (i + 1)) % len(_WORDS)] for i in range(3 + index % 8))
        return Sample(self._images[index % _IMAGES], " ".join(words))

    def images_digest(self) -> str:
        """As `Source` does."""
        return SYNTHETIC

    def name(self, index: int) -> str:
        """Where a sample lies, for messages."""
        return f"synthetic[{index}]"
