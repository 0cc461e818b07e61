"""A scene: which objects stand where, on which place, and what is said about it.

Everything is a function of a random generator made from (seed, split, index), so a scene is the same whoever
renders it, and in whatever order.
"""

import dataclasses
import itertools
import math

import numpy as np

from clippy_jax.shapes.backgrounds import PLACES
from clippy_jax.shapes.captions import caption
from clippy_jax.shapes.objects import OBJECTS

CLASSES = tuple(OBJECTS)
PLACE_NAMES = tuple(PLACES)
USUAL_PLACE = {"landbird": "grass", "waterbird": "water"}  # where a bird is met 95 times in 100, in training
USUAL_SHARE = 0.95
SPLITS = (
    *("train", "voc_train", "voc_val", "imagenet_val", "waterbirds_train", "waterbirds_val", "waterbirds_test"),
    *("voc_test", "imagenet_test"),
)

OBJECT_COUNTS = (0.06, 0.44, 0.36, 0.14)  # share of the scenes with 0, 1, 2 and 3 objects
# Smallest and largest diameter of the circle around an object, by the number of objects, in sides of the image.
SIZES = {1: (0.55, 0.85), 2: (0.46, 0.60), 3: (0.40, 0.50)}
UNFAMILIAR_SIZE = (0.30, 0.45)  # the same of a bird of a look that no training scene has
NEAREST = 0.94  # distance of two objects that just fit side by side, in the mean of their diameters


@dataclasses.dataclass(frozen=True)
class PlacedObject:
    """An object in a scene, and the circle it stands in; lengths are shares of the image's side."""

    name: str
    x: float
    y: float
    size: float  # the circle's diameter
    is_unfamiliar: bool = False  # drawn as no training scene has it (`objects.UNFAMILIAR`)


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a picture shows, and the caption that says so."""

    place: str
    objects: tuple[PlacedObject, ...]
    caption: str


def scene_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The generator that scene `index` of `split` is made from."""
    return np.random.default_rng([seed, SPLITS.index(split), index])


def sample_scene(rng: np.random.Generator, name: str | None = None, place: str | None = None) -> Scene:
    """A scene of none to three different objects, or of one `name` and/or at one `place` where given.

    A bird keeps to its usual place (and a scene to one bird), unless `place` says otherwise.
    """
    names = (name,) if name else _sample_names(rng)
    if place is None:
        place = _sample_place(rng, names)
    objects = _arrange(rng, names, SIZES.get(len(names), (0, 0)))
    return Scene(place, objects, caption(rng, names, place))


def unfamiliar_bird(rng: np.random.Generator, bird: str, place: str) -> Scene:
    """A scene of one bird of a look that no training scene has, smaller than they are in training."""
    (placed,) = _arrange(rng, (bird,), UNFAMILIAR_SIZE)
    return Scene(place, (dataclasses.replace(placed, is_unfamiliar=True),), caption(rng, (bird,), place))


def _sample_names(rng: np.random.Generator) -> tuple[str, ...]:
    count = rng.choice(len(OBJECT_COUNTS), p=OBJECT_COUNTS)
    names = []
    for number in rng.permutation(len(CLASSES)).tolist():
        second_bird = CLASSES[number] in USUAL_PLACE and not USUAL_PLACE.keys().isdisjoint(names)
        if len(names) < count and not second_bird:
            names.append(CLASSES[number])
    return tuple(names)


def _sample_place(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    for name in names:
        if name in USUAL_PLACE:
            others = [place for bird, place in USUAL_PLACE.items() if bird != name]
            return USUAL_PLACE[name] if rng.random() < USUAL_SHARE else others[0]
    return PLACE_NAMES[rng.integers(len(PLACE_NAMES))]


def _arrange(rng: np.random.Generator, names: tuple[str, ...], sizes: tuple[float, float]) -> tuple[PlacedObject, ...]:
    """Finds room for all objects inside the image, side by side; smaller ones if there is none."""
    smallest, largest = sizes
    shrink = 1.0
    while True:
        placed = []
        for name, (size, x, y) in zip(names, rng.random((len(names), 3)).tolist()):
            size = shrink * (smallest + (largest - smallest) * size)
            placed.append(PlacedObject(name, size / 2 + (1 - size) * x, size / 2 + (1 - size) * y, size))
        pairs = itertools.combinations(placed, 2)
        if all(math.hypot(a.x - b.x, a.y - b.y) > NEAREST * (a.size + b.size) / 2 for a, b in pairs):
            return tuple(placed)
        shrink *= 0.995
