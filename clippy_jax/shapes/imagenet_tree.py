"""The classification tree, laid out as ImageNet's validation set: a folder of photos per class."""

import json
from pathlib import Path

from clippy_jax.shapes.captions import TEMPLATES
from clippy_jax.shapes.rendering import render
from clippy_jax.shapes.scenes import CLASSES, sample_scene, scene_rng
from clippy_jax.shapes.settings import Settings


def write_images(folder: Path, settings: Settings, indices: range) -> None:
    """Writes scenes of one object each; the classes take turns."""
    for index in indices:
        name = CLASSES[index % len(CLASSES)]
        rng = scene_rng(settings.seed, "imagenet_val", index)
        picture = render(sample_scene(rng, name=name), settings.image_size, rng)
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"val_{index:06d}.jpg").write_bytes(picture.jpeg())


def write_vocabulary(folder: Path) -> None:
    """Writes `vocabulary.json`: the classes' names, and templates worded as the training captions."""
    vocabulary = {"classes": {name: name for name in CLASSES}, "templates": list(TEMPLATES)}
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary, indent=2) + "\n")
