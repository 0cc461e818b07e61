"""The Waterbirds tree: two birds on two places each, with the columns of `waterbird_complete95_forest2water2`.

The training captions and the `train` split show a bird on its usual place 19 times in 20. `val` and `test` hold as many
birds on the other's place. These are smaller, and of looks that were never trained on, between the two birds': where
the bird itself tells less, the place is a temptation.
"""

import csv
import json
from pathlib import Path

from clippy_jax.datasets.waterbirds_tree import METADATA, SPLITS
from clippy_jax.shapes.captions import TEMPLATES
from clippy_jax.shapes.rendering import render
from clippy_jax.shapes.scenes import USUAL_PLACE, sample_scene, scene_rng, unfamiliar_bird
from clippy_jax.shapes.settings import Settings

BIRDS = ("landbird", "waterbird")  # in the order of the column `y`
PLACES = tuple(USUAL_PLACE[bird] for bird in BIRDS)  # in the order of the column `place`
COLUMNS = ("img_id", "img_filename", "y", "split", "place", "place_filename")
UNUSUAL_IN = 20  # training images of a bird, of which one is on the other's place


def image_counts(settings: Settings) -> dict[str, int]:
    """Images in each split."""
    half = -(-settings.evaluation_images // 2)
    return {"train": half, "val": half, "test": settings.evaluation_images}


def bird_and_place(split: str, index: int) -> tuple[int, int]:
    """The labels `y` and `place` of an image: all four pairs take turns, save in `train`."""
    bird, number = index % 2, index // 2
    unusual = number % UNUSUAL_IN == 0 if split == "train" else number % 2 == 1
    return bird, 1 - bird if unusual else bird


def write_images(folder: Path, settings: Settings, split: str, indices: range) -> None:
    """Writes some images of a split."""
    for index in indices:
        bird, place = bird_and_place(split, index)
        rng = scene_rng(settings.seed, f"waterbirds_{split}", index)
        sample = sample_scene if split == "train" else unfamiliar_bird
        picture = render(sample(rng, BIRDS[bird], PLACES[place]), settings.image_size, rng)
        path = folder / _file_name(split, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.jpeg())


def write_metadata(folder: Path, settings: Settings) -> None:
    """Writes `metadata.csv`: y and place are 0 for land and 1 for water, split is 0 train, 1 val, 2 test."""
    with open(folder / METADATA, "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        image_id = 0
        for split, count in image_counts(settings).items():
            for index in range(count):
                bird, place = bird_and_place(split, index)
                image_id += 1
                table.writerow((image_id, _file_name(split, index), bird, SPLITS.index(split), place, PLACES[place]))


def write_vocabulary(folder: Path) -> None:
    """Writes `vocabulary.json`: what the columns' numbers mean, and templates worded as the training captions."""
    vocabulary = {"birds": BIRDS, "places": PLACES, "background": "background", "templates": TEMPLATES}
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary, indent=2) + "\n")


def _file_name(split: str, index: int) -> str:
    bird, _ = bird_and_place(split, index)
    return f"{BIRDS[bird]}/{split}_{index:06d}.jpg"
