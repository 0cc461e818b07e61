"""CLIP_benchmark's data sets to classify: tars of images with the number of their class, and words beside them.

    classnames.txt  zeroshot_classification_templates.txt  test/nshards.txt  test/0.tar  test/1.tar ...

In the tars `KEY.cls` holds the class, from 0, of the image `KEY.webp` (or `.jpg`, `.png`).
"""

import collections
import dataclasses
import io
import os
import pathlib
import re

import PIL.Image

from clippy_jax.datasets import image_file, vocabulary
from clippy_jax.datasets.open_files import OpenFiles
from clippy_jax.datasets.sample import StorageAway
from clippy_jax.datasets.tars import shard_index, tar_members
from clippy_jax.datasets.tars.tar_members import Gap, Member
from clippy_jax.datasets.vocabulary import ClassificationVocabulary
from clippy_jax.errors import InputError, reading

CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"
KIND = "dataset_type.txt"
SPLIT = "test"
_LONGEST_CLASS = 32  # bytes of a .cls file


@dataclasses.dataclass(frozen=True)
class WdsImages:
    """The images of the split `test`; `image_folder.ImageFolder` is the same for a tree of files."""

    folder: pathlib.Path
    split: str
    vocabulary: ClassificationVocabulary
    data_set: str  # "ImageNet" or "ImageNet-v2" with ImageNet's words, else ""
    class_folders: tuple[str, ...]  # the class names, with the number of the class where several have one
    names: tuple[str, ...]  # of the images: "test/0.tar: s0000001.webp"
    _labels: tuple[int, ...]
    _places: tuple[tuple[int, Member], ...]  # number of the tar, image in it
    _files: OpenFiles

    def read(self, index: int) -> tuple[PIL.Image.Image, int]:
        """An image and its class; raises `OSError` where it cannot be read."""
        tar, (_, offset, length) = self._places[index]
        try:
            content = self._files.read(tar, offset, length)
        except StorageAway as error:
            raise OSError(str(error)) from error
        return image_file.open_image(io.BytesIO(content)), self._labels[index]


def find(folder: str) -> list[pathlib.Path]:
    """The data sets at a folder: itself, or those directly in it, sorted.

    Raises:
      InputError: there is none.
    """
    root = pathlib.Path(os.path.expanduser(folder))
    if (root / CLASS_NAMES).is_file():
        return [root]
    found = sorted(path.parent for path in root.glob(f"*/{CLASS_NAMES}"))
    if not found:
        raise InputError(
            f"{folder} holds no data set of CLIP_benchmark: neither it nor a folder in it has a {CLASS_NAMES}"
        )
    return found


def read(root: pathlib.Path) -> WdsImages:
    """Lists the images of a data set and their classes; decodes none.

    Raises:
      InputError: a file is missing or damaged, an image has no class of the list, or the data set is not to classify.
    """
    kind = root / KIND
    if kind.is_file() and (said := _text(kind)) not in ("", "classification"):
        raise InputError(f"{kind} says {said!r}; only data sets of one class an image are read")
    names, templates = _lines(root / CLASS_NAMES), _lines(root / TEMPLATES)
    for template in templates:
        if "{c}" not in template:
            raise InputError(f"{root / TEMPLATES}: {template!r} has no {{c}} where the class name goes")
    tars = _tars(root / SPLIT)
    files = OpenFiles(tars, [tar.stat().st_size for tar in tars])
    labels, places = [], []
    for number, tar in enumerate(tars):
        for image, label in _samples(tar):
            text = files.read(number, label.offset, min(label.length, _LONGEST_CLASS)).strip()
            if not text.isdigit() or int(text) >= len(names):
                raise InputError(
                    f"{tar}: {label.name} holds {text.decode('utf-8', 'replace')!r}; a class of {CLASS_NAMES} is a "
                    f"number from 0 to {len(names) - 1}"
                )
            labels.append(int(text))
            places.append((number, image))
    if not places:
        raise InputError(f"{root / SPLIT} holds no image")
    words, times = _vocabulary(names, templates), collections.Counter(names)
    return WdsImages(
        root,
        SPLIT,
        words,
        ("ImageNet-v2" if len(places) == 10_000 else "ImageNet") if words.is_imagenet else "",
        tuple(name if times[name] == 1 else f"{name} ({number})" for number, name in enumerate(names)),
        tuple(f"{tars[number].relative_to(root)}: {image.name}" for number, image in places),
        tuple(labels),
        tuple(places),
        files,
    )


def _text(path: pathlib.Path) -> str:
    """What a file holds, without the empty lines at its end."""
    with reading(path):
        return path.read_text("utf-8").rstrip()


def _lines(path: pathlib.Path) -> tuple[str, ...]:
    lines = tuple(line.strip() for line in _text(path).split("\n"))
    if not all(lines):
        raise InputError(f"{path} must hold a name or a template on each line")
    return lines


def _tars(folder: pathlib.Path) -> list[pathlib.Path]:
    count = folder / "nshards.txt"
    if not count.is_file():
        raise InputError(f"{count} does not exist; it says how many tars there are")
    text = _text(count)
    if not re.fullmatch(r"\d{1,6}", text) or not int(text):
        raise InputError(f"{count} holds {text!r}; it must be the number of tars")
    tars = [folder / f"{number}.tar" for number in range(int(text))]
    for tar in tars:
        if not tar.is_file():
            raise InputError(f"{tar} does not exist; {count} counts {len(tars)} tars")
    return tars


def _samples(tar: pathlib.Path) -> list[tuple[Member, Member]]:
    """The image and the class of each key, in the order of the tar."""
    found: dict[str, dict[str, Member]] = {}
    with shard_index.opened(tar) as (read, size):
        for member in tar_members.members(read, size):
            if isinstance(member, Gap):
                if member is not Gap.END:
                    raise InputError(f"{tar} is {member.value}; fetch it again")
                continue
            key, _, extension = member.name.rpartition("/")[2].partition(".")
            if key:
                kind = "image" if extension.lower() in shard_index.IMAGE_EXTENSIONS else extension
                found.setdefault(f"{member.name.rpartition('/')[0]}/{key}", {})[kind] = member
    for key, members in found.items():
        for kind in ("image", "cls"):
            if kind not in members:
                raise InputError(f"{tar}: sample {key.lstrip('/')} has no {kind}")
    return [(members["image"], members["cls"]) for members in found.values()]


def _vocabulary(names: tuple[str, ...], templates: tuple[str, ...]) -> ClassificationVocabulary:
    imagenet = vocabulary.imagenet()
    if names == imagenet.names and set(templates) == set(imagenet.templates):
        return imagenet
    prompt_set = f"{len(names)} names of the data set x its {len(templates)} template{'s'[: len(templates) > 1]}"
    return ClassificationVocabulary(names, names, templates, prompt_set, is_imagenet=False)
