"""What a frozen image tower makes of the training images, computed once and read in their place.

FOLDER/features.json        what the features were made of; a run that would make others is refused
FOLDER/000000.safetensors   "features" [rows, T, D] of the first so many samples of the training data, and so on; in its
                            metadata "bad", as JSON: the rows whose images cannot be used, each with its cause

Each sample has its row, so batches, their order and the samples that replace bad ones are those of the images.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes  # teaches NumPy the type
import numpy as np
import safetensors.numpy
from jaxtyping import Float

from clippy_jax.config import ImageTowerConfig, InputConfig, ModelConfig
from clippy_jax.datasets.open_files import OpenFiles
from clippy_jax.datasets.sample import BadSample, Source
from clippy_jax.errors import InputError, reading
from clippy_jax.models.pooling import needs_all_tokens
from clippy_jax.whole_files import complete_or_nothing, write_text

KEY = "config.input.image_features"
_DESCRIPTION = "features.json"
_PROGRAM = "python -m clippy_jax.encode_images with the --config flags of the training"
LARGEST_FILE = 2**28  # bytes
MOST_ROWS = 2**13  # of a file, which is what an interruption costs
_DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float32": np.dtype(np.float32)}


def describe_data(config: InputConfig, source: Source) -> dict[str, Any]:
    """What features depend on beside the tower, by the names that messages use."""
    fields = ("image_size", "max_pixels", "image_features_dtype")
    return {
        "number of samples": len(source),
        "digest of the images": source.images_digest(),
        **{f"config.input.{name}": getattr(config, name) for name in fields},
    }


def describe_tower(model: ModelConfig, digest: str) -> dict[str, Any]:
    """What features depend on in the model; `digest` is that of the image tower's parameters."""
    tower = {f"config.model.image.{name}": value for name, value in dataclasses.asdict(model.image).items()}
    needs_all = needs_all_tokens(model.pooling, model.image_projection)
    return {
        **tower,
        "config.model.precision": model.precision,
        "tokens": "all" if needs_all else f"pooled by {model.pooling}",
        "digest of the image tower's weights": digest,
    }


class ImageFeatures:
    """Complete features of a data set, for random access. Reading is thread-safe.

    Attributes:
      shape: (T, D) of a sample's features.
      dtype: of their numbers.
    """

    def __init__(self, config: InputConfig, source: Source):
        """Opens `config.image_features`.

        Raises:
          InputError: it is missing, incomplete or damaged, or was made of other data than `source`.
        """
        self._folder = pathlib.Path(config.image_features)
        if not (self._folder / _DESCRIPTION).is_file():
            raise InputError(f"{KEY}: {self._folder} has no {_DESCRIPTION}; make it by {_PROGRAM}")
        self._made_of, self.shape, self._rows = _read_description(self._folder)
        _check_same(self._folder, self._made_of, describe_data(config, source))
        self.dtype = _DTYPES[config.image_features_dtype]
        paths = file_paths(self._folder, len(source), self._rows)
        missing = [path for path in paths if not path.exists()]
        if missing:
            raise InputError(
                f"{KEY}: {len(missing):,} of {len(paths):,} files of {self._folder} are not made yet; "
                f"go on by {_PROGRAM}"
            )
        self._bytes_per_row = int(np.prod(self.shape)) * self.dtype.itemsize
        headers = [
            self._read_header(path, min(self._rows, len(source) - i * self._rows)) for i, path in enumerate(paths)
        ]
        self._starts = [start for start, _ in headers]
        self._bad = {i * self._rows + row: cause for i, (_, bad) in enumerate(headers) for row, cause in bad.items()}
        self._files = OpenFiles(paths, [path.stat().st_size for path in paths])

    def check_tower(self, wanted: Mapping[str, Any]) -> None:
        """Raises `InputError` if the features are not of the tower that `describe_tower` describes."""
        _check_same(self._folder, self._made_of, wanted)

    def __getitem__(self, index: int) -> Float[np.ndarray, "T D"]:
        """The features of a sample; raises `BadSample` where its image cannot be used, `StorageAway` as `OpenFiles`."""
        if index in self._bad:
            raise BadSample(self._bad[index])
        file, row = divmod(index, self._rows)
        content = self._files.read(file, self._starts[file] + row * self._bytes_per_row, self._bytes_per_row)
        return np.frombuffer(content, self.dtype).reshape(self.shape)

    def _read_header(self, path: pathlib.Path, rows: int) -> tuple[int, dict[int, str]]:
        """The byte at which a file's features begin, and its bad rows."""
        with reading(path, f"remove it and make it anew by {_PROGRAM}", "is damaged"), open(path, "rb") as file:
            size, length = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, size)))
            begin, end = header["features"]["data_offsets"]
            if (end - begin, size) != (rows * self._bytes_per_row, 8 + length + end):
                raise ValueError(f"it has {size:,} bytes, which are not {rows:,} rows")
            return 8 + length + begin, {
                int(row): str(cause) for row, cause in json.loads(header["__metadata__"]["bad"]).items()
            }


def begin_features(folder: pathlib.Path, made_of: Mapping[str, Any], shape: tuple[int, int], dtype: str) -> int:
    """Makes the folder, or checks that it is of the same features; returns the rows of each of its files.

    Raises:
      InputError: the folder is of other features, or something else, or cannot be written.
    """
    if (folder / _DESCRIPTION).exists():
        has, _, rows = _read_description(folder)
        _check_same(folder, has, made_of)
        return rows
    # Another process may be writing the description.
    if folder.exists() and any(not path.name.endswith(".incomplete") for path in folder.iterdir()):
        raise InputError(f"{KEY}: {folder} is not empty and holds no features; choose another folder")
    rows = max(1, min(MOST_ROWS, LARGEST_FILE // (int(np.prod(shape)) * _DTYPES[dtype].itemsize)))
    description = {"made of": made_of, "shape": shape, "rows_per_file": rows}
    write_text(folder / _DESCRIPTION, json.dumps(description, indent=2) + "\n")
    return rows


def file_paths(folder: pathlib.Path, samples: int, rows: int) -> list[pathlib.Path]:
    """The files of so many samples."""
    return [folder / f"{number:06d}.safetensors" for number in range(-(-samples // rows))]


def write_features(path: pathlib.Path, features: Float[np.ndarray, "rows T D"], bad: Mapping[int, str]) -> None:
    """Writes a file, completely or not at all; raises `InputError` where that fails."""
    with complete_or_nothing(path, force=True) as temporary:
        content = safetensors.numpy.save({"features": features}, {"bad": json.dumps(dict(bad))})
        pathlib.Path(temporary).write_bytes(content)


def _read_description(folder: pathlib.Path) -> tuple[dict[str, Any], tuple[int, int], int]:
    """What the features were made of, the shape of a sample's, and the rows of a file."""
    path = folder / _DESCRIPTION
    with reading(path, "choose another folder", "is damaged"):
        values = json.loads(path.read_text("utf-8"))
        tokens, width = values["shape"]
        return dict(values["made of"]), (int(tokens), int(width)), int(values["rows_per_file"])


def _check_same(folder: pathlib.Path, has: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """A field of the tower that is newer than the features has its default there."""
    defaults = {field.name: field.default for field in dataclasses.fields(ImageTowerConfig)}
    has = {f"config.model.image.{name}": value for name, value in defaults.items()} | dict(has)
    wrong = [f"{name} is {wanted[name]}, but {has.get(name)} there" for name in wanted if has.get(name) != wanted[name]]
    if wrong:
        raise InputError(
            f"{KEY}: {folder} holds features of something else: {'; '.join(wrong)}; "
            f"make others in another folder by {_PROGRAM}"
        )
