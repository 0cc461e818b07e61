"""Flickr30k and Flickr8k as they unpack: a file of captions, five an image, beside a folder of images."""

import pathlib
import re
from collections.abc import Sequence

from clippy_jax.errors import InputError, reading

# What each distribution calls its captions, the ones with splits first; and its images.
CAPTION_FILES = ("dataset_flickr30k.json", "dataset_flickr8k.json", "results_20130124.token", "results.csv")
IMAGE_FOLDERS = ("", "flickr30k-images", "flickr30k_images", "flickr30k_images/flickr30k_images", "Flicker8k_Dataset")
IMAGE_FOLDERS += ("images", "Images")
# "1000092795.jpg#0<tab>caption", or "1000092795.jpg| 0| caption", in which one row lacks its last bar.
_ROW = re.compile(r"(?P<image>[^|#\t]+\.\w+)\s*(?:#\d+\t|\|\s*\d+\s*\|?)\s*(?P<caption>.*)")


def caption_file(folder: pathlib.Path) -> pathlib.Path | None:
    """The file of captions in a folder, None if it has none of the known ones."""
    return next((folder / name for name in CAPTION_FILES if (folder / name).is_file()), None)


def is_caption_file(file: pathlib.Path) -> bool:
    """Whether a file lists captions as Flickr30k's `.token` or `results.csv` do."""
    if file.suffix.lower() not in (".token", ".csv") or not file.is_file():
        return False
    with reading(file), open(file, encoding="utf-8-sig", errors="replace") as lines:
        first = lines.readline()
    return first.replace(" ", "").startswith("image_name|") or bool(re.match(r"[^\t]+#\d+\t", first))


def read_captions(file: pathlib.Path) -> dict[pathlib.Path, list[str]]:
    """The captions of each image.

    Raises:
      InputError: the file cannot be read, has a row of another form, or its first image is nowhere beside it.
    """
    captions_of: dict[str, list[str]] = {}
    with reading(file):
        lines = file.read_text("utf-8-sig").split("\n")
    for number, line in enumerate(lines, start=1):
        match = _ROW.fullmatch(line.strip())
        if match and match["caption"]:
            captions_of.setdefault(match["image"].strip(), []).append(match["caption"].strip())
        elif line.strip() and number > 1:  # the first may name the columns
            raise InputError(f"{file}, line {number} is no image with a number and a caption: {line.strip()[:60]!r}")
    folder = image_folder(file, list(captions_of)[:1])
    return {folder / name: captions for name, captions in captions_of.items()}


def image_folder(file: pathlib.Path, names: Sequence[str]) -> pathlib.Path:
    """The folder beside a file of captions in which its images lie; raises `InputError` where none has the first."""
    for folder in IMAGE_FOLDERS:
        if all((file.parent / folder / name).is_file() for name in names):
            return file.parent / folder
    raise InputError(
        f"{file} names the image {file.parent / names[0]}, which does not exist, nor does it in {IMAGE_FOLDERS[1]} and "
        "the like; put the file beside the image folders"
    )
