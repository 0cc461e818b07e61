"""The segmentation tree, laid out as PASCAL VOC 2012: photos, palette masks, lists and a vocabulary."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from clippy_jax.datasets.vocabulary import BACKGROUND, photo_prompt
from clippy_jax.shapes.captions import OPENINGS
from clippy_jax.shapes.rendering import Picture, render
from clippy_jax.shapes.scenes import CLASSES, PLACE_NAMES, sample_scene, scene_rng
from clippy_jax.shapes.settings import Settings


def image_counts(settings: Settings) -> dict[str, int]:
    """Images in each list."""
    images = settings.evaluation_images
    return {"train": -(-images // 3), "val": images, "test": images}


def write_images(folder: Path, settings: Settings, split: str, indices: range) -> None:
    """Writes the photos and masks of some scenes of a list."""
    for name in ("JPEGImages", "SegmentationClass"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in indices:
        rng = scene_rng(settings.seed, f"voc_{split}", index)
        picture = render(sample_scene(rng), settings.image_size, rng)
        (folder / "JPEGImages" / f"{_image_name(split, index)}.jpg").write_bytes(picture.jpeg())
        palette_mask(picture).save(folder / "SegmentationClass" / f"{_image_name(split, index)}.png")


def write_lists(folder: Path, settings: Settings) -> None:
    """Writes the lists of images and `vocabulary.json`, whose prompts are worded as the training captions."""
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, count in image_counts(settings).items():
        (lists / f"{split}.txt").write_text("".join(f"{_image_name(split, index)}\n" for index in range(count)))
    vocabulary = {
        "classes": [BACKGROUND, *CLASSES],
        "folded_into_background": list(PLACE_NAMES),
        "prompts": [*map(photo_prompt, (BACKGROUND, *CLASSES)), *(OPENINGS[0] + place for place in PLACE_NAMES)],
    }
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary, indent=2) + "\n")


def palette_mask(picture: Picture) -> Image.Image:
    """The picture's mask with the colours that VOC gives to labels."""
    mask = Image.fromarray(picture.mask)
    mask.putpalette(voc_palette())
    return mask


def voc_palette() -> bytes:
    """PASCAL VOC's colour map: the bits of a label, three at a time, become the high bits of red, green and blue."""
    labels = np.arange(256)
    channels = [sum(((labels >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
    return np.stack(channels, 1).astype(np.uint8).tobytes()


def _image_name(split: str, index: int) -> str:
    return f"{split}_{index:06d}"
