"""PASCAL-VOC-shaped trees: `JPEGImages/*.jpg`, `SegmentationClass/*.png`, `ImageSets/Segmentation/<split>.txt`."""

import dataclasses
import pathlib

import numpy as np
import PIL.Image

from clippy_jax.errors import InputError
from clippy_jax.evaluators import vocabulary
from clippy_jax.evaluators.vocabulary import IGNORED_LABEL, SegmentationVocabulary


@dataclasses.dataclass(frozen=True)
class VOCTree:
    """The images of one split and their masks, in the order of the split's list."""

    folder: pathlib.Path
    split: str
    vocabulary: SegmentationVocabulary
    images: tuple[pathlib.Path, ...]
    masks: tuple[pathlib.Path, ...]


def read(folder: str, split: str) -> VOCTree:
    """Lists the images and masks of a split.

    Raises:
      InputError: a folder or the split's list is missing, the list is empty, or an image or a mask is not there.
    """
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise InputError(f"{folder} is not a folder; it must be a PASCAL VOC tree such as VOCdevkit/VOC2012")
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        if not (root / part).is_dir():
            raise InputError(f"{folder} has no {part}; it must be a PASCAL VOC tree such as VOCdevkit/VOC2012")
    listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not listing.is_file():
        present = ", ".join(sorted(path.stem for path in listing.parent.glob("*.txt"))) or "none"
        raise InputError(f"{listing} does not exist; splits of this tree: {present}")
    words = vocabulary.segmentation_vocabulary(root)
    names = listing.read_text("utf-8").split()
    if not names:
        raise InputError(f"{listing} names no image")
    images = tuple(root / "JPEGImages" / f"{name}.jpg" for name in names)
    masks = tuple(root / "SegmentationClass" / f"{name}.png" for name in names)
    for image, mask in zip(images, masks):
        if not image.is_file():
            raise InputError(f"{image} is in {listing.name} but does not exist")
        if not mask.is_file():
            raise InputError(f"{image} has no mask: {mask} does not exist")
    return VOCTree(root, split, words, images, masks)


def open_mask(path: pathlib.Path) -> PIL.Image.Image:
    """Opens a mask whose pixels are labels, without decoding it.

    Raises:
      InputError: it cannot be opened, or its pixels are colours.
    """
    try:
        mask = PIL.Image.open(path)
    except OSError:
        raise InputError(f"{path} cannot be read as a mask; it must be a PNG") from None
    if mask.mode not in ("P", "L"):
        raise InputError(f"{path} is a {mask.mode} image; a mask must be a palette or grey PNG whose pixels are labels")
    return mask


def read_mask(path: pathlib.Path, classes: int) -> PIL.Image.Image:
    """Decodes a mask and refuses labels that are neither a class nor 255.

    Raises:
      InputError: it cannot be decoded, or such a label occurs; the file and the label are named.
    """
    mask = open_mask(path)
    try:
        labels = np.asarray(mask)
    except OSError:
        raise InputError(f"{path} cannot be read as a mask; it is cut short or damaged") from None
    wrong = labels[(labels >= classes) & (labels != IGNORED_LABEL)]
    if wrong.size:
        raise InputError(
            f"{path} holds label {wrong.max()}; labels go from 0 to {classes - 1}, {IGNORED_LABEL} is ignored"
        )
    return mask


def check_sizes(image: pathlib.Path, mask: pathlib.Path) -> tuple[int, int] | None:
    """Width and height of an image and its mask, from their headers; None if the image's cannot be read.

    Raises:
      InputError: they differ, or the mask cannot be opened.
    """
    with open_mask(mask) as opened_mask:
        mask_size = opened_mask.size
    try:
        with PIL.Image.open(image) as opened_image:
            size = opened_image.size
    except OSError:
        return None
    if mask_size != size:
        raise InputError(f"{mask} is {mask_size[0]}x{mask_size[1]} but its image is {size[0]}x{size[1]}")
    return size
