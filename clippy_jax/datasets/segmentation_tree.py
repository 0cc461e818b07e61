"""Reads a tree of images and masks as a `LabelLayout` describes it."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int16, UInt8

from clippy_jax.datasets import masks, nested_folder, vocabulary
from clippy_jax.datasets.label_layouts import LabelLayout
from clippy_jax.datasets.tfds import split as tfds_split
from clippy_jax.datasets.vocabulary import IGNORED_LABEL, SegmentationVocabulary
from clippy_jax.errors import InputError, reading

_ENDINGS = (".jpg", ".png", ".jpeg", ".JPG", ".JPEG")


@dataclasses.dataclass(frozen=True)
class SegmentationTree:
    """The images of one split and their masks, in the order of the split's list or sorted by name."""

    folder: pathlib.Path
    layout: LabelLayout
    split: str
    vocabulary: SegmentationVocabulary
    images: tuple[pathlib.Path, ...]
    masks: tuple[pathlib.Path, ...]
    class_of_value: Int16[np.ndarray, "256"]  # or `masks.REFUSED`
    class_of_segment: Mapping[str, Mapping[int, int]] | None  # by name of mask, where masks are of segments

    def size(self, index: int) -> tuple[int, int] | None:
        """Width and height of an image and its mask; None if the image cannot be read, see `masks.check_sizes`."""
        modes = masks.VALUES if self.class_of_segment is None else masks.SEGMENTS
        return masks.check_sizes(self.images[index], self.masks[index], modes)

    def labels(self, index: int) -> UInt8[np.ndarray, "H W"]:
        """The class of every pixel, 255 where it is ignored; raises `InputError` as `masks.read_values` does."""
        path = self.masks[index]
        if self.class_of_segment is None:
            return masks.read_values(path, self.class_of_value)
        return masks.read_segments(path, self.class_of_segment[path.name])


def read(folder: str, layout: LabelLayout, split: str | None = None) -> SegmentationTree:
    """Lists the images and masks of a split, by default the layout's.

    Args:
      folder: the tree, or `tfds:voc/2012` for the one that TFDS unpacked.

    Raises:
      InputError: a folder, the split's list or JSON is missing or wrong, there is no image, or one has no mask.
    """
    split = split or layout.split
    is_tfds = folder.startswith(tfds_split.PREFIX)
    root = tfds_split.voc_folder(folder) if is_tfds else pathlib.Path(os.path.expanduser(folder))
    expected = f"it must be a tree of {layout.name} such as {layout.example}"
    if not root.is_dir():
        raise InputError(f"{folder} is not a folder; {expected}")

    def existing(folders: tuple[str, ...]) -> pathlib.Path:
        candidates = [name.replace("{split}", split) for name in folders]
        for name in candidates:
            if (root / name).is_dir():
                return root / name
        hint = nested_folder.hint(root, lambda inner: any((inner / name).is_dir() for name in candidates))
        raise InputError(f"{folder} has no {' or '.join(candidates)}; {expected}{hint}")

    image_folder, mask_folder = existing(layout.image_folders), existing(layout.mask_folders)
    words = vocabulary.segmentation_vocabulary(root, layout.vocabulary)
    # A data set may have been saved anew; an ending with more than a dot tells apart what lies in one folder.
    endings = (layout.image_ending, *(_ENDINGS if layout.image_ending in _ENDINGS else ()))
    if layout.listing:
        names = _listed(root / layout.listing.replace("{split}", split))
    else:
        found = [path.relative_to(image_folder) for path in image_folder.rglob("*") if path.name.endswith(endings)]
        visible = [str(path) for path in found if not any(part.startswith(".") for part in path.parts)]
        names = sorted({path.removesuffix(next(filter(path.endswith, endings))) for path in visible})
        if not names:
            raise InputError(f"{image_folder} holds no image *{layout.image_ending}; {expected}")
    images = tuple(_image(image_folder, name, endings) for name in names)
    mask_paths = tuple(mask_folder / f"{name}{layout.mask_ending}" for name in names)
    for image, mask in zip(images, mask_paths):
        if layout.listing and not image.is_file():
            raise InputError(f"{image} is in {split}.txt but does not exist")
        if not mask.is_file():
            raise InputError(f"{image} has no mask: {mask} does not exist")
    class_of_value = _class_of_value(layout, words)
    class_of_segment = None
    if layout.segments:
        panoptic = root / layout.segments.replace("{split}", split)
        class_of_segment = _segments(panoptic, class_of_value)
        for mask in mask_paths:
            if mask.name not in class_of_segment:
                raise InputError(f"{panoptic} does not list {mask.name}")
    return SegmentationTree(root, layout, split, words, images, mask_paths, class_of_value, class_of_segment)


def _image(folder: pathlib.Path, name: str, endings: tuple[str, ...]) -> pathlib.Path:
    """The image of a name, with the first of the endings with which there is one."""
    paths = [folder / f"{name}{ending}" for ending in endings]
    return next((path for path in paths if path.is_file()), paths[0])


def _listed(listing: pathlib.Path) -> list[str]:
    if not listing.parent.is_dir():
        raise InputError(f"{listing.parent} is not a folder; it must hold the lists of images of each split")
    if not listing.is_file():
        present = ", ".join(sorted(path.stem for path in listing.parent.glob("[!.]*.txt"))) or "none"
        raise InputError(f"{listing} does not exist; splits of this tree: {present}")
    with reading(listing):
        names = listing.read_text("utf-8-sig").split()
    if not names:
        raise InputError(f"{listing} names no image")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{listing} names {twice} more than once, which would count more than the others")
    return names


def _class_of_value(layout: LabelLayout, words: SegmentationVocabulary) -> Int16[np.ndarray, "256"]:
    table = np.full(256, masks.REFUSED, np.int16)
    table[list(layout.ignored)] = IGNORED_LABEL
    table[list(layout.background)] = 0
    table[list(words.values)] = np.arange(len(words.values))
    return table


def _segments(path: pathlib.Path, class_of_value: Int16[np.ndarray, "256"]) -> dict[str, dict[int, int]]:
    """The class of each segment of each mask, from COCO's panoptic JSON."""
    with reading(path, wrong="cannot be read as JSON"):
        contents = json.loads(path.read_text("utf-8-sig"))
    try:
        annotations = contents["annotations"]
        categories = {
            annotation["file_name"]: {segment["id"]: segment["category_id"] for segment in annotation["segments_info"]}
            for annotation in annotations
        }
        if not all(isinstance(n, int) for of_mask in categories.values() for pair in of_mask.items() for n in pair):
            raise TypeError
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            f'{path} is no panoptic JSON of COCO: "annotations" must list "file_name" and, in "segments_info", '
            '"id" and "category_id"'
        ) from None
    known = set(np.flatnonzero(class_of_value[:IGNORED_LABEL] != masks.REFUSED).tolist())
    for name, category_of in categories.items():
        for category in category_of.values():
            if category not in known:
                raise InputError(f"{path}: {name} has a segment of category {category}, which is no class of COCO's")
    return {
        name: {number: int(class_of_value[category]) for number, category in category_of.items()}
        for name, category_of in categories.items()
    }
