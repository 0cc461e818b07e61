"""Small trees as the data sets are distributed, with the classes that each pixel should be read as."""

import json
import pathlib
from collections.abc import Sequence

import numpy as np
import PIL.Image

from clippy_jax.datasets import label_layouts as layouts
from clippy_jax.datasets.label_layouts import LabelLayout
from tests.evaluators import trees

# (layout, image, mask) as a root has them on disk; the values beside their classes are from the data sets' papers.
FILES = {
    layouts.VOC: ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
    layouts.VOC_20: ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
    layouts.PASCAL_CONTEXT_59: ("JPEGImages/{}.jpg", "SegmentationClassContext/{}.png"),
    layouts.PASCAL_CONTEXT_60: ("JPEGImages/{}.jpg", "SegmentationClassContext/{}.png"),
    layouts.ADE20K: ("images/validation/ADE_val_{}.jpg", "annotations/validation/ADE_val_{}.png"),
    layouts.COCO_STUFF: ("val2017/{}.jpg", "stuffthingmaps/val2017/{}.png"),
    layouts.COCO_OBJECT: ("images/val2017/{}.jpg", "annotations/val2017/{}.png"),
    layouts.COCO_PANOPTIC: ("val2017/{}.jpg", "annotations/panoptic_val2017/{}.png"),
    layouts.CITYSCAPES_19: (
        "leftImg8bit/val/ulm/ulm_{}_leftImg8bit.png",
        "gtFine/val/ulm/ulm_{}_gtFine_labelIds.png",
    ),
    layouts.CITYSCAPES: (
        "leftImg8bit/val/ulm/ulm_{}_leftImg8bit.png",
        "gtFine/val/ulm/ulm_{}_gtFine_labelIds.png",
    ),
}
CLASS_OF_VALUE = {
    layouts.VOC: {0: 0, 1: 1, 15: 15, 20: 20, 255: 255},
    layouts.VOC_20: {0: 255, 1: 0, 15: 14, 20: 19, 255: 255},
    layouts.PASCAL_CONTEXT_59: {0: 255, 1: 0, 59: 58, 255: 255},
    layouts.PASCAL_CONTEXT_60: {0: 0, 1: 1, 59: 59, 255: 255},
    layouts.ADE20K: {0: 255, 1: 0, 13: 12, 150: 149},
    layouts.COCO_STUFF: {0: 0, 10: 10, 12: 11, 89: 79, 91: 80, 181: 170, 255: 255},
    layouts.COCO_OBJECT: {0: 1, 10: 11, 12: 12, 89: 80, 91: 0, 181: 0, 255: 0},
    layouts.COCO_PANOPTIC: {1: 0, 13: 11, 90: 79, 92: 80, 200: 132},
    layouts.CITYSCAPES: {0: 255, 3: 255, 6: 255, 7: 0, 11: 4, 33: 26},
    layouts.CITYSCAPES_19: {0: 255, 9: 255, 7: 0, 11: 2, 17: 5, 28: 15, 31: 16, 33: 18},
}


def tree(
    root: pathlib.Path, layout: LabelLayout, sizes: Sequence[tuple[int, int]], seed: int = 0
) -> tuple[list[pathlib.Path], list[np.ndarray]]:
    """Writes one image a size (width, height) with its mask; returns the images and the classes of their pixels."""
    random = np.random.default_rng(seed)
    class_of_value = CLASS_OF_VALUE[layout]
    image_name, mask_name = FILES[layout]
    images, truths, annotations = [], [], []
    for index, (width, height) in enumerate(sizes):
        name = f"{index:012d}"
        image, mask = root / image_name.format(name), root / mask_name.format(name)
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        trees.picture(random, width, height).save(image)
        choices = random.integers(0, len(class_of_value), (height // 5 + 1, width // 5 + 1))
        choices = choices.repeat(5, axis=0).repeat(5, axis=1)[:height, :width]
        values = np.array(list(class_of_value))[choices]
        truth = np.array(list(class_of_value.values()))[choices]
        if layout.segments:
            values[:4, :4], truth[:4, :4] = 0, 255
            numbers = {0: 0} | {category: 70000 * category + index for category in class_of_value}
            coloured = np.vectorize(numbers.get)(values)
            colours = np.stack([coloured % 256, coloured // 256 % 256, coloured // 65536], axis=-1)
            PIL.Image.fromarray(colours.astype(np.uint8)).save(mask)
            segments = [{"id": numbers[c], "category_id": c, "iscrowd": 0} for c in np.unique(values).tolist() if c]
            annotations.append({"image_id": index, "file_name": mask.name, "segments_info": segments})
        else:
            PIL.Image.fromarray(values.astype(np.uint8)).save(mask)
        images.append(image)
        truths.append(truth)
    if layout.segments:
        (root / "annotations/panoptic_val2017.json").write_text(json.dumps({"annotations": annotations}))
    if layout.listing:
        listing = root / layout.listing.replace("{split}", "val")
        listing.parent.mkdir(parents=True)
        listing.write_text("\n".join(image.stem for image in images))
    return images, truths
