"""The words for a scene: a caption names every object in it, and usually the place."""

from collections.abc import Sequence

import numpy as np

from clippy_jax.datasets.vocabulary import article

OPENINGS = ("a photo of ", "a picture of ", "")
WITH_PLACE = ("{objects} on {place}", "{objects} on a {place} background", "{place} with {objects}")
PLACE_LEFT_OUT = 0.2  # share of the captions that name the objects only, as people often do
EMPTY_SCENES = ("{place}", "a {place} background")


def caption(rng: np.random.Generator, names: Sequence[str], place: str) -> str:
    """One of many ways to say that the objects `names`, none for an empty scene, are at `place`."""
    opening = OPENINGS[rng.integers(len(OPENINGS))]
    objects = [f"{article(names[i])} {names[i]}" for i in rng.permutation(len(names))]
    if not objects:
        return opening + EMPTY_SCENES[rng.integers(len(EMPTY_SCENES))].format(place=place)
    listed = " and ".join([", ".join(objects[:-1]), objects[-1]]) if len(objects) > 1 else objects[0]
    if rng.random() < PLACE_LEFT_OUT:
        return opening + listed
    return opening + WITH_PLACE[rng.integers(len(WITH_PLACE))].format(objects=listed, place=place)


TEMPLATES = tuple(opening + "{a} {c}" for opening in OPENINGS)  # of zero-shot prompts, worded as the captions
