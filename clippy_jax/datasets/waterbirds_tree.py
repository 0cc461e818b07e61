"""Waterbirds trees: a folder of images with a `metadata.csv` that says which bird is seen in which place."""

import csv
import dataclasses
import os
import pathlib

import numpy as np
from jaxtyping import Int32

from clippy_jax.datasets import vocabulary
from clippy_jax.datasets.vocabulary import WaterbirdsVocabulary
from clippy_jax.errors import InputError, reading

METADATA = "metadata.csv"
SPLITS = ("train", "val", "test")  # in the order of the column `split`
NUMBER_OF = {"y": 2, "place": 2, "split": len(SPLITS)}  # values that a column may have, from 0


@dataclasses.dataclass(frozen=True)
class WaterbirdsTree:
    """The images of one split with their bird and place, in the order of the table."""

    folder: pathlib.Path
    split: str
    vocabulary: WaterbirdsVocabulary
    paths: tuple[pathlib.Path, ...]
    birds: Int32[np.ndarray, "I"]  # index into the vocabulary's birds
    places: Int32[np.ndarray, "I"]  # index into its places; a bird's own place has the bird's index


def read(folder: str, split: str = "test") -> WaterbirdsTree:
    """Lists the images of a split.

    Raises:
      InputError: the folder or its table is missing, the table lacks a column, holds a value that is none of its
        column's, names an image that does not exist, or has no row of the split.
    """
    if split not in SPLITS:
        raise InputError(f"{split!r} is no split of Waterbirds; the splits are {', '.join(SPLITS)}")
    root = pathlib.Path(os.path.expanduser(folder))
    table = root / METADATA
    if not table.is_file():
        raise InputError(
            f"{table} does not exist; {folder} must be a Waterbirds tree such as waterbird_complete95_forest2water2"
        )
    words = vocabulary.waterbirds_vocabulary(root)
    paths, birds, places = [], [], []
    with reading(table, wrong="cannot be read as a table"), open(table, encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        for column in ("img_filename", *NUMBER_OF):
            if column not in (rows.fieldnames or ()):
                raise InputError(f"{table} has no column {column!r}; its columns are {_listed(rows.fieldnames)}")
        for row in rows:
            bird, place, part = (_value(row, column, f"{table}, line {rows.line_num}") for column in NUMBER_OF)
            if SPLITS[part] != split:
                continue
            path = root / (row["img_filename"] or "")
            if not path.is_file():
                raise InputError(
                    f"{table}, line {rows.line_num}: img_filename is {row['img_filename']!r}, but {path} is no file"
                )
            paths.append(path)
            birds.append(bird)
            places.append(place)
    if not paths:
        raise InputError(f"{table} has no row of the split {split} (column 'split' {SPLITS.index(split)})")
    return WaterbirdsTree(root, split, words, tuple(paths), np.array(birds, np.int32), np.array(places, np.int32))


def _value(row: dict[str, str | None], column: str, where: str) -> int:
    text = (row[column] or "").strip()
    known = [str(value) for value in range(NUMBER_OF[column])]
    if text not in known:
        raise InputError(f"{where}: {column} is {text!r}; it must be {' or '.join(known)}")
    return int(text)


def _listed(names: list[str] | None) -> str:
    return ", ".join(names) if names else "missing"
