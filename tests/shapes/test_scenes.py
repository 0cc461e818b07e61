import re

import numpy as np
import pytest

from clippy_jax.datasets.vocabulary import photo_prompt
from clippy_jax.shapes import scenes
from clippy_jax.shapes.captions import TEMPLATES
from clippy_jax.shapes.scenes import CLASSES, PLACE_NAMES, USUAL_PLACE, sample_scene, scene_rng


def many(count, split="train", **given):
    return [sample_scene(scene_rng(0, split, index), **given) for index in range(count)]


def test_captions_name_exactly_what_is_in_the_scene():
    for scene in many(2000):
        words = re.findall(r"[a-z]+", scene.caption)
        assert sorted(word for word in words if word in CLASSES) == sorted(placed.name for placed in scene.objects)
        places = [word for word in words if word in PLACE_NAMES]
        assert places in ([], [scene.place])
        assert places or scene.objects
        for placed in scene.objects:
            article = "an" if placed.name[0] in "aeiou" else "a"
            assert re.search(rf"\b{article} {placed.name}\b", scene.caption)


def test_captions_have_several_wordings_and_the_prompts_are_among_them():
    captions = {scene.caption for scene in many(20000)}
    assert {photo_prompt(name) for name in CLASSES} | {f"a photo of {place}" for place in PLACE_NAMES} <= captions
    assert {template.format(a="an", c="apple") for template in TEMPLATES} <= captions
    shapes = {re.sub("|".join((*CLASSES, *PLACE_NAMES)), "_", caption) for caption in captions}
    assert len(shapes) > 30


def test_scenes_have_none_to_three_different_objects_of_every_class_and_place():
    sampled = many(3000)
    counts = np.bincount([len(scene.objects) for scene in sampled]) / len(sampled)
    np.testing.assert_allclose(counts, scenes.OBJECT_COUNTS, atol=0.03)
    names = [placed.name for scene in sampled for placed in scene.objects]
    assert set(names) == set(CLASSES) and {scene.place for scene in sampled} == set(PLACE_NAMES)
    assert min(names.count(name) for name in CLASSES) > 0.7 * len(names) / len(CLASSES)


def test_objects_lie_inside_the_image_side_by_side():
    for scene in many(1000):
        for i, placed in enumerate(scene.objects):
            half = placed.size / 2
            assert half <= min(placed.x, placed.y) + 1e-9 and max(placed.x, placed.y) <= 1 - half + 1e-9
            for other in scene.objects[:i]:
                gap = np.hypot(placed.x - other.x, placed.y - other.y) - (placed.size + other.size) / 2
                assert gap > -0.06 * (placed.size + other.size) / 2


def test_a_bird_usually_meets_one_place():
    sampled = many(8000)
    for bird, place in USUAL_PLACE.items():
        met = [scene.place for scene in sampled if bird in [placed.name for placed in scene.objects]]
        assert met.count(place) / len(met) == pytest.approx(scenes.USUAL_SHARE, abs=0.02)
        assert set(met) == set(USUAL_PLACE.values())
    birds = [sum(placed.name in USUAL_PLACE for placed in scene.objects) for scene in sampled]
    assert max(birds) == 1


def test_unfamiliar_birds_are_alone_and_smaller_than_any_in_training():
    for index in range(50):
        scene = scenes.unfamiliar_bird(scene_rng(0, "waterbirds_val", index), "landbird", "water")
        (bird,) = scene.objects
        assert (bird.name, scene.place, bird.is_unfamiliar) == ("landbird", "water", True)
        assert bird.size < scenes.SIZES[1][0] and "landbird" in scene.caption
    assert not any(placed.is_unfamiliar for scene in many(500) for placed in scene.objects)


def test_name_and_place_can_be_given():
    for scene in many(20, name="waterbird", place="snow"):
        assert scene.place == "snow" and [placed.name for placed in scene.objects] == ["waterbird"]
