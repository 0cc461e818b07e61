import numpy as np
import PIL.Image
import pytest

from clippy_jax.analysis import painting

GREY = PIL.Image.new("RGB", (64, 32), (100, 100, 100))
LABELS = np.repeat([[0, 1]], 32, axis=0).repeat(32, axis=1).astype(np.uint8)


@pytest.mark.parametrize("size", [(64, 32), (3000, 1500), (1, 1), (1, 5000)])
def test_images_are_shown_with_896_pixels_along_their_long_side(size):
    shown = painting.shown(PIL.Image.new("RGB", size))
    assert shown.size == painting.shown_size(size)
    assert max(shown.size) == 896 and min(shown.size) >= 1


def test_segments_are_tinted_by_the_opacity_and_parted_by_white_lines():
    painted = np.asarray(painting.overlay(GREY, LABELS, {0: (200, 0, 0)}, 0.5)).astype(int)
    assert painted.shape == (448, 896, 3)
    assert (painted[:, :440] == (150, 50, 50)).all()
    assert (painted[:, 447:449] == 255).all()
    assert (painted[:, 460:] == 100).all()  # a label without a colour


def test_without_opacity_the_image_stays_as_it_is():
    painted = painting.overlay(GREY, LABELS, {0: (200, 0, 0), 1: (0, 200, 0)}, 0.0)
    assert (np.asarray(painted) == 100).all()


def test_heat_is_brightest_where_the_value_is_highest():
    heat = np.asarray(painting.heat_map(GREY, np.array([[0.1, 0.5, 0.9]], np.float32))).astype(int).sum(axis=2)
    left, middle, right = heat[200, [20, 448, 875]]
    assert left < middle < right


def test_one_value_everywhere_is_no_error():
    assert painting.heat_map(GREY, np.ones((2, 3), np.float32)).size == (896, 448)


def test_a_patch_is_framed():
    image = PIL.Image.new("RGB", (80, 40), (100, 100, 100))
    marked = np.asarray(painting.mark_patch(image, (1, 2), (2, 4)))
    changed = np.argwhere((marked != 100).any(axis=2))
    assert changed.min(axis=0).tolist() == [15, 35] and changed.max(axis=0).tolist() == [39, 65]
    assert (marked[25:35, 45:55] == 100).all()
    assert (np.asarray(image) == 100).all()
