"""Folder-per-class trees: `ROOT/<class folder>/<image>`, as ImageNet's validation set is laid out.

Names that start with a dot are no data, here and everywhere: macOS leaves such files beside those it copies.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np
import PIL.Image
from jaxtyping import Int32

from clippy_jax.datasets import image_file, nested_folder, vocabulary
from clippy_jax.datasets.vocabulary import ClassificationVocabulary
from clippy_jax.errors import InputError, reading


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """The images of a tree and the class of each; sorted, so every process sees the same list."""

    folder: pathlib.Path
    split: str  # how the folder is called
    vocabulary: ClassificationVocabulary
    data_set: str  # "ImageNet" or "ImageNet-v2", for which published numbers exist; else ""
    class_folders: tuple[str, ...]  # one per name
    names: tuple[pathlib.Path, ...]  # of the images
    labels: Int32[np.ndarray, "I"]  # index into the vocabulary's names

    def read(self, index: int) -> tuple[PIL.Image.Image, int]:
        """An image and its class; raises `OSError` where it cannot be decoded."""
        return image_file.open_image(self.names[index]), int(self.labels[index])


def read(folder: str) -> ImageFolder:
    """Lists a tree.

    Without a `vocabulary.json` the tree is ImageNet: its class folders, named by synsets and sorted, are the 1000
    classes. Where they are called 0 to 999 it is ImageNet-v2, and they are sorted as numbers.

    Raises:
      InputError: there is no such folder, a class folder is unknown to the vocabulary or no synset, or there is no
        image.
    """
    root = pathlib.Path(os.path.expanduser(folder))
    present = list_classes(root)
    words = vocabulary.classification_vocabulary(root)
    class_folders, data_set = words.folders, ""
    if words.is_imagenet:
        class_folders, data_set = present, "ImageNet"
        numbered = tuple(str(number) for number in range(len(words.names)))
        is_v2 = set(numbered) <= set(present)
        if is_v2:
            class_folders, data_set = numbered, "ImageNet-v2"
        others = [name for name in present if not (name in numbered if is_v2 else re.fullmatch(r"n\d{8}", name))]
        if others or len(present) != len(words.names):
            example = f", and {others[0]!r} is none of its classes" if others else ""
            hint = nested_folder.hint(root, lambda inner: _has_classes(inner, len(words.names)))
            raise InputError(
                f"{folder} holds {len(present)} class folders where ImageNet has {len(words.names)}{example}; "
                f"for other classes put a {vocabulary.FILE_NAME} beside them{hint}"
            )
    unknown = [name for name in present if name not in class_folders]
    if unknown:
        raise InputError(f"{root / unknown[0]} is a class folder that {root / vocabulary.FILE_NAME} does not name")
    paths, labels = list_images(root, class_folders)
    return ImageFolder(root, root.resolve().name, words, data_set, class_folders, paths, labels)


def _has_classes(folder: pathlib.Path, count: int) -> bool:
    """Whether a folder is ImageNet by its looks: named by as many synsets or numbers as there are classes."""
    names = [name for name in os.listdir(folder) if re.fullmatch(r"n\d{8}|\d{1,3}", name)]
    return len(names) == count


def list_classes(root: pathlib.Path) -> tuple[str, ...]:
    """The names of the class folders, sorted.

    Raises:
      InputError: there is no such folder, or none in it.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; it must hold one folder of images per class")
    with reading(root):
        present = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not present:
        flat = any(map(is_image, root.iterdir()))
        found = "images, but no class folders" if flat else "no class folders"
        raise InputError(f"{root} holds {found}; it must hold one folder of images per class")
    return tuple(present)


def list_images(
    root: pathlib.Path, class_folders: Sequence[str]
) -> tuple[tuple[pathlib.Path, ...], Int32[np.ndarray, "I"]]:
    """The images of the class folders, some of which may be missing, and the number of the class of each.

    Raises:
      InputError: there is no image.
    """
    paths, labels = [], []
    for label, name in enumerate(class_folders):
        if not (root / name).is_dir():
            continue
        with reading(root / name):
            images = list_folder(root / name)
        paths.extend(images)
        labels.extend([label] * len(images))
    if not paths:
        deeper = next((name for name in class_folders if any((root / name).glob("*/*.*"))), None)
        where = f"; in {root / deeper} are folders: move their images one up" if deeper else ""
        raise InputError(f"{root}: no class folder holds an image ({', '.join(image_file.ENDINGS)}){where}")
    return tuple(paths), np.array(labels, np.int32)


def list_folder(folder: pathlib.Path) -> list[pathlib.Path]:
    """The images that lie directly in a folder, sorted."""
    return sorted(filter(is_image, folder.iterdir()))


def is_image(path: pathlib.Path) -> bool:
    """Whether a file is an image by its name, be it of a format that is read or not."""
    endings = (*image_file.ENDINGS, *image_file.UNREAD_ENDINGS)
    return path.suffix.lower() in endings and not path.name.startswith(".")


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


def read_train_and_val(folder: str) -> TrainAndVal:
    """Lists a tree.

    Raises:
      InputError: `train` or `val` is missing, has no class folder or no image, or `val` has a class unknown to `train`.
    """
    root = pathlib.Path(os.path.expanduser(folder))
    for part in ("train", "val"):
        if not (root / part).is_dir():
            hint = nested_folder.hint(root, lambda inner: (inner / "train").is_dir() and (inner / "val").is_dir())
            raise InputError(
                f"{root / part} is not a folder; {folder} must hold train and val, with a folder per class{hint}"
            )
    classes = list_classes(root / "train")
    for name in list_classes(root / "val"):
        if name not in classes:
            raise InputError(f"{root / 'val' / name} is a class folder that {root / 'train'} does not have")
    train, val = (LabelledImages(*list_images(root / part, classes)) for part in ("train", "val"))
    return TrainAndVal(root, classes, train, val)
