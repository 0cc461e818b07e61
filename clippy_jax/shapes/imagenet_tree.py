"""The classification tree, laid out as ImageNet's validation set: a folder of photos per class."""

import json
from pathlib import Path

from clippy_jax.shapes.captions import TEMPLATES
from clippy_jax.shapes.rendering import render
from clippy_jax.shapes.scenes import CLASSES, sample_scene, scene_rng
from clippy_jax.shapes.settings import Settings


def image_counts(settings: Settings) -> dict[str, int]:
    """Images in each split, which is a tree of its own."""
    return {"val": settings.evaluation_images, "test": settings.evaluation_images}


def write_images(folder: Path, settings: Settings, split: str, indices: range) -> None:
    """Writes scenes of one object each; the classes take turns."""
    for index in indices:
        name = CLASSES[index % len(CLASSES)]
        rng = scene_rng(settings.seed, f"imagenet_{split}", index)
        picture = render(sample_scene(rng, name=name), settings.image_size, rng)
        (folder / split / name).mkdir(parents=True, exist_ok=True)
        (folder / split / name / f"{split}_{index:06d}.jpg").write_bytes(picture.jpeg())


def write_vocabulary(folder: Path) -> None:
    """Writes each split's `vocabulary.json`: the classes' names, and templates worded as the training captions."""
    vocabulary = {"classes": {name: name for name in CLASSES}, "templates": list(TEMPLATES)}
    for split in ("val", "test"):
        (folder / split / "vocabulary.json").write_text(json.dumps(vocabulary, indent=2) + "\n")
