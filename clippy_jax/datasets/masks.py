"""Masks of segmentation data sets: PNGs whose pixels are values of classes, or numbers of segments."""

import pathlib
from collections.abc import Mapping

import numpy as np
import PIL.Image
from jaxtyping import Int16, UInt8

from clippy_jax.datasets import image_file
from clippy_jax.datasets.vocabulary import IGNORED_LABEL
from clippy_jax.errors import InputError, reading, reason

VALUES = ("P", "L")  # of Pillow's modes
SEGMENTS = ("RGB",)
REFUSED = -1  # in a table of classes: the value must not occur
NO_SEGMENT = 0


def open_mask(path: pathlib.Path, modes: tuple[str, ...]) -> PIL.Image.Image:
    """Opens a mask without decoding it.

    Raises:
      InputError: it cannot be opened, or is not in one of the modes.
    """
    try:
        mask = image_file.open_header(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read as a mask ({reason(error)}); it must be a PNG") from None
    if mask.mode not in modes:
        wanted = "an RGB PNG of segments" if modes == SEGMENTS else "a palette or grey PNG whose pixels are labels"
        raise InputError(f"{path} is a {mask.mode} image; a mask must be {wanted}")
    return mask


def read_values(path: pathlib.Path, class_of_value: Int16[np.ndarray, "values"]) -> UInt8[np.ndarray, "H W"]:
    """The class of every pixel of a mask of values; 255 where it is ignored.

    Args:
      path: the mask.
      class_of_value: the class, 255 or `REFUSED` for each of the 256 values.

    Raises:
      InputError: the mask cannot be decoded, or holds a value that is refused; the file and the value are named.
    """
    values = _pixels(path, VALUES)
    classes = class_of_value[values]
    if (classes == REFUSED).any():
        known = np.flatnonzero(class_of_value[:IGNORED_LABEL] != REFUSED)
        raise InputError(
            f"{path} holds label {values[classes == REFUSED].max()}, which stands for no class; labels go from "
            f"{known[0]} to {known[-1]}, {IGNORED_LABEL} is no label"
        )
    return classes.astype(np.uint8)


def read_segments(path: pathlib.Path, class_of_segment: Mapping[int, int]) -> UInt8[np.ndarray, "H W"]:
    """The class of every pixel of a panoptic mask; 255 where it belongs to no segment.

    A segment's number is its colour, red + 256 green + 65536 blue; black is no segment.

    Raises:
      InputError: the mask cannot be decoded, or holds a segment that is not listed; file and number are named.
    """
    colours = _pixels(path, SEGMENTS).astype(np.int64)
    numbers = colours @ np.array([1, 256, 65536])
    known = np.array(sorted({NO_SEGMENT, *class_of_segment}))
    classes = np.array([class_of_segment.get(number, IGNORED_LABEL) for number in known.tolist()], np.uint8)
    positions = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    unlisted = numbers[known[positions] != numbers]
    if unlisted.size:
        raise InputError(f"{path} holds segment {unlisted.max()}, which the panoptic JSON does not list for it")
    return classes[positions]


def check_sizes(image: pathlib.Path, mask: pathlib.Path, modes: tuple[str, ...]) -> tuple[int, int] | None:
    """Width and height of an image and its mask, from their headers; None if the image's cannot be read.

    Raises:
      InputError: they differ, or the mask cannot be opened.
    """
    with open_mask(mask, modes) as opened_mask:
        mask_size = opened_mask.size
    try:
        with image_file.open_header(image) as opened_image:
            size = opened_image.size
    except OSError:
        return None
    if mask_size != size:
        raise InputError(f"{mask} is {mask_size[0]}x{mask_size[1]} but its image is {size[0]}x{size[1]}")
    return size


def _pixels(path: pathlib.Path, modes: tuple[str, ...]) -> UInt8[np.ndarray, "H W ..."]:
    mask = open_mask(path, modes)
    with reading(path, "it is cut short or damaged", "cannot be read as a mask"):
        return np.asarray(mask)
