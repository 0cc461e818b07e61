"""Folder-per-class trees: `ROOT/<class folder>/<image>`, as ImageNet's validation set is laid out."""

import dataclasses
import pathlib

import numpy as np
from jaxtyping import Int32

from clippy_jax.errors import InputError
from clippy_jax.evaluators import vocabulary
from clippy_jax.evaluators.vocabulary import ClassificationVocabulary

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """The images of a tree and the class of each; sorted, so every process sees the same list."""

    folder: pathlib.Path
    vocabulary: ClassificationVocabulary
    class_folders: tuple[str, ...]  # one per name
    paths: tuple[pathlib.Path, ...]
    labels: Int32[np.ndarray, "I"]  # index into the vocabulary's names


def read(folder: str) -> ImageFolder:
    """Lists a tree.

    Without a `vocabulary.json` the tree is ImageNet: its class folders, sorted, are the 1000 classes.

    Raises:
      InputError: there is no such folder, a class folder is unknown to the vocabulary, or there is no image.
    """
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise InputError(f"{folder} is not a folder; it must hold one folder of images per class")
    words = vocabulary.classification_vocabulary(root)
    present = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not present:
        raise InputError(f"{folder} holds no class folders; it must hold one folder of images per class")
    class_folders = words.folders
    if words.is_imagenet:
        if len(present) != len(words.names):
            raise InputError(
                f"{folder} holds {len(present)} class folders where ImageNet has {len(words.names)}; "
                f"for other classes put a {vocabulary.FILE_NAME} beside them"
            )
        class_folders = tuple(present)
    label_of = {name: label for label, name in enumerate(class_folders)}
    unknown = [name for name in present if name not in label_of]
    if unknown:
        raise InputError(f"{root / unknown[0]} is a class folder that {root / vocabulary.FILE_NAME} does not name")
    paths, labels = [], []
    for name in present:
        images = sorted(path for path in (root / name).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        paths.extend(images)
        labels.extend([label_of[name]] * len(images))
    if not paths:
        raise InputError(f"{folder}: no class folder holds an image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return ImageFolder(root, words, class_folders, tuple(paths), np.array(labels, np.int32))
