"""Example images: scenes that the project renders, and photographs of scikit-image where that is installed."""

import dataclasses
import importlib.util
import pathlib
import shutil

import PIL.Image

from clippy_jax.shapes import rendering, scenes

IMAGE_PIXELS = 480
# Scenes of the held-out split that show much at once: two or three objects, on every kind of place.
SCENES = (21, 14, 12, 18, 5, 1)
PHOTOGRAPHS = {
    "chelsea.png": "cat, blanket, wall",
    "astronaut.png": "astronaut, flag, space shuttle, helmet",
    "coffee.png": "cup of coffee, spoon, saucer, table",
    "rocket.jpg": "rocket, launch tower, smoke, sky",
}


@dataclasses.dataclass(frozen=True)
class Example:
    """An image file and the words to look for in it."""

    path: str
    words: str


def write_examples(folder: pathlib.Path, photographs: bool) -> list[Example]:
    """Renders the scenes into a folder; where photographs are wanted, they are copied there too and come first."""
    return [*(_photographs(folder) if photographs else ()), *(_scene(folder, index) for index in SCENES)]


def _scene(folder: pathlib.Path, index: int) -> Example:
    rng = scenes.scene_rng(0, "voc_val", index)
    scene = scenes.sample_scene(rng)
    names = [placed.name for placed in scene.objects]
    path = folder / f"{'_'.join([*names, scene.place])}.png"
    PIL.Image.fromarray(rendering.render(scene, IMAGE_PIXELS, rng).image).save(path)
    return Example(str(path), ", ".join([*names, scene.place]))


def _photographs(folder: pathlib.Path) -> list[Example]:
    """Those that scikit-image brings along; others it would have to fetch."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        return []
    data = pathlib.Path(spec.origin).parent / "data"
    there = [(data / name, words) for name, words in PHOTOGRAPHS.items() if (data / name).is_file()]
    return [Example(shutil.copy(path, folder), words) for path, words in there]
