import io

import numpy as np
import PIL.Image

from clippy_jax.analysis.palette import colour
from clippy_jax.analysis.segment_sheet import Row, draw

NAMES = ("background", "cat", "dog")


def panel(labels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The painted panel beside a black image, and the legend."""
    image = PIL.Image.new("RGB", labels.shape[::-1])
    sheet = draw([Row(image, (labels,))], ("image", "segments"), NAMES)
    shown = [np.asarray(axes.images[0].get_array()).astype(int) for axes in sheet.axes]
    assert (shown[0] == 0).all() and [axes.get_title() for axes in sheet.axes] == ["image", "segments"]
    return shown[1], [text.get_text() for text in sheet.legends[0].get_texts()]


def test_the_first_fifty_colours_differ():
    colours = np.array([colour(index) for index in range(50)])
    distances = np.linalg.norm(colours[:, None] - colours, axis=-1) + 1000 * np.eye(50)
    assert distances.min() > 50


def test_a_segment_has_its_colour_the_background_is_grey_and_ignored_pixels_are_white():
    labels = np.zeros((32, 32), np.int32)
    labels[:, 8:16], labels[:, 16:24], labels[:, 24:] = 1, 2, 255
    painted, legend = panel(labels)
    grey, cat, dog, ignored = painted[16, [4, 12, 20, 28]]
    assert np.ptp(grey) == 0 and 60 < grey[0] < 200
    for shown, index in ((cat, 0), (dog, 1)):
        assert np.corrcoef(shown, colour(index))[0, 1] > 0.999
    assert ignored.tolist() == [255, 255, 255]
    assert (painted[:, [7, 15, 23]] == 255).all()  # the lines between segments
    assert legend == list(NAMES)


def test_a_name_that_does_not_occur_takes_no_colour_and_no_place():
    painted, legend = panel(np.full((32, 32), 2, np.int32))
    assert np.corrcoef(painted[10, 10], colour(0))[0, 1] > 0.999 and legend == ["dog"]


def test_a_name_is_no_formula():
    row = Row(PIL.Image.new("RGB", (8, 8)), (np.zeros((8, 8), np.int32),))
    draw([row], ("image", "segments"), [r"$\frac$ dollars"]).savefig(io.BytesIO())  # math would end in a ValueError


def test_large_images_are_reduced_before_their_segments_are_parted():
    labels = np.repeat(np.array([[1, 2]]), 1000, axis=1).repeat(300, axis=0)
    painted, _ = panel(labels)
    assert painted.shape == (96, 640, 3) and (painted[:, 319] == 255).all() and not (painted[:, 318] == 255).all()


def test_rows_beyond_three_stand_in_two_blocks():
    row = Row(PIL.Image.new("RGB", (40, 20)), (np.zeros((20, 40), np.int32),))
    one, two = (draw([row] * count, ("image", "segments"), NAMES).get_size_inches() for count in (3, 5))
    assert one[1] > one[0] / 2 and two[0] > 1.3 * two[1]
