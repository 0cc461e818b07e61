import io

import numpy as np
import pytest
from PIL import Image

from clippy_jax.datasets.vocabulary import IGNORED_LABEL
from clippy_jax.shapes.objects import OBJECTS, Look, ObjectClass
from clippy_jax.shapes.rendering import render
from clippy_jax.shapes.scenes import CLASSES, PlacedObject, Scene, sample_scene, scene_rng


def test_the_mask_labels_each_object_where_it_is():
    for index in range(100):
        rng = scene_rng(5, "voc_val", index)
        scene = sample_scene(rng)
        mask = render(scene, 96, rng).mask
        labels = {1 + CLASSES.index(placed.name): placed for placed in scene.objects}
        assert set(np.unique(mask)) - {0, IGNORED_LABEL} == set(labels)
        rows, columns = (np.indices(mask.shape) + 0.5) / 96
        distances = {label: np.hypot(columns - o.x, rows - o.y) - o.size / 2 for label, o in labels.items()}
        for label, distance in distances.items():
            assert (distance[mask == label] < 0.01).all()
            assert (mask == label).sum() > 0.15 * (distance < 0).sum()
        if labels:
            assert (np.minimum.reduce(list(distances.values()))[mask == IGNORED_LABEL] < 0.02).all()


@pytest.fixture
def red_disc(monkeypatch):
    """The apple's place in the list of classes, drawn as a flat red disc."""

    def draw(x, y, rng):
        red = np.broadcast_to(np.float32([1, 0, 0])[:, None, None], (3, *x.shape))
        return Look((0.8 - np.hypot(x, y)).astype(np.float32), red, roundness=0.01, gloss=0.0)

    monkeypatch.setitem(OBJECTS, "apple", ObjectClass(draw, turn=0.0))


def test_mask_and_image_agree_with_the_drawing_pixel_by_pixel(red_disc):
    for size in (64, 97):
        scene = Scene("grass", (PlacedObject("apple", 0.43, 0.61, 0.5),), "")
        picture = render(scene, size, np.random.default_rng(0))
        rows, columns = (np.indices((size, size)) + 0.5) / size
        outside = np.hypot(columns - 0.43, rows - 0.61) - 0.8 * 0.25
        pixel = 1 / size
        assert (picture.mask[outside < -pixel] == 1 + CLASSES.index("apple")).all()
        assert (picture.mask[outside > pixel] == 0).all()
        assert (abs(outside[picture.mask == IGNORED_LABEL]) < pixel).all()
        inside = picture.image[outside < -2 * pixel].astype(int)
        assert (inside[:, 0] - inside[:, 1:].max(1) > 40).all()


def test_a_scene_is_a_function_of_seed_split_and_index():
    def picture(seed, split, index):
        rng = scene_rng(seed, split, index)
        return render(sample_scene(rng), 32, rng)

    first, again = picture(1, "train", 7), picture(1, "train", 7)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    for other in (picture(2, "train", 7), picture(1, "voc_val", 7), picture(1, "train", 8)):
        assert (first.image != other.image).any()


def test_jpegs_are_close_to_the_image():
    rng = scene_rng(0, "train", 0)
    picture = render(sample_scene(rng), 64, rng)
    with Image.open(io.BytesIO(picture.jpeg())) as image:
        assert image.mode == "RGB" and image.size == (64, 64)
        assert np.abs(np.asarray(image, int) - picture.image).mean() < 6
