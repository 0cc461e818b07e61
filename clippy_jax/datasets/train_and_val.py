"""Trees with `train` and `val`, each a folder of images per class: what classifiers on frozen features learn from."""

import dataclasses
import pathlib

import numpy as np
from jaxtyping import Int32

from clippy_jax.datasets import image_folder
from clippy_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """The images of one folder and the class of each, sorted."""

    paths: tuple[pathlib.Path, ...]
    labels: Int32[np.ndarray, "I"]


@dataclasses.dataclass(frozen=True)
class TrainAndVal:
    """Images to learn from and images to be measured on; the class folders of `train`, sorted, are the classes."""

    folder: pathlib.Path
    class_folders: tuple[str, ...]
    train: LabelledImages
    val: LabelledImages


def read(folder: str) -> TrainAndVal:
    """Lists a tree.

    Raises:
      InputError: `train` or `val` is missing, has no class folder or no image, or `val` has a class unknown to `train`.
    """
    root = pathlib.Path(folder)
    for part in ("train", "val"):
        if not (root / part).is_dir():
            raise InputError(
                f"{root / part} is not a folder; {folder} must hold train and val, with a folder per class"
            )
    classes = image_folder.list_classes(root / "train")
    for name in image_folder.list_classes(root / "val"):
        if name not in classes:
            raise InputError(f"{root / 'val' / name} is a class folder that {root / 'train'} does not have")
    train, val = (LabelledImages(*image_folder.list_images(root / part, classes)) for part in ("train", "val"))
    return TrainAndVal(root, classes, train, val)
