import numpy as np
import PIL.Image

from clippy_jax.analysis.palette import colour
from clippy_jax.analysis.segment_sheet import PANEL_PIXELS, Row, draw

NAMES = ("background", "cat", "dog")


def panel(labels: np.ndarray, rows: int = 1) -> np.ndarray:
    """The painted panel of a black image, cut out of its sheet."""
    image = PIL.Image.new("RGB", labels.shape[::-1])
    sheet = np.asarray(draw([Row(image, (labels,))] * rows, ("image", "segments"), NAMES)).astype(int)
    top = int(np.argmax((sheet[:, sheet.shape[1] // 4] == 0).all(-1)))
    scale = PANEL_PIXELS[rows] // max(labels.shape)
    left = sheet.shape[1] // 2
    return sheet[top : top + labels.shape[0] * scale, left : left + 8 + labels.shape[1] * scale]


def test_the_first_fifty_colours_differ():
    colours = np.array([colour(index) for index in range(50)])
    distances = np.linalg.norm(colours[:, None] - colours, axis=-1) + 1000 * np.eye(50)
    assert distances.min() > 50


def test_a_segment_has_its_colour_the_background_is_grey_and_ignored_pixels_are_white():
    labels = np.zeros((32, 32), np.int32)
    labels[:, 8:16], labels[:, 16:24], labels[:, 24:] = 1, 2, 255
    painted = panel(labels)
    middle = painted[len(painted) // 2, -640:]
    grey, cat, dog, ignored = (middle[at] for at in (80, 240, 400, 600))
    assert np.ptp(grey) == 0 and 60 < grey[0] < 200
    for shown, index in ((cat, 0), (dog, 1)):
        assert np.corrcoef(shown, colour(index))[0, 1] > 0.999
    assert ignored.tolist() == [255, 255, 255]


def test_a_name_that_does_not_occur_takes_no_colour_and_no_place():
    only_dog = np.full((32, 32), 2, np.int32)
    painted = panel(only_dog)
    assert np.corrcoef(painted[100, 300], colour(0))[0, 1] > 0.999
