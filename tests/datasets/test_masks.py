import numpy as np
import PIL.Image
import pytest

from clippy_jax.datasets import masks
from clippy_jax.errors import InputError

CLASS_OF_VALUE = np.where(np.arange(256) < 4, np.arange(256), masks.REFUSED).astype(np.int16)


def test_a_mask_of_colours_is_refused(tmp_path):
    path = tmp_path / "scene_000.png"
    PIL.Image.new("RGB", (20, 30)).save(path)
    with pytest.raises(InputError, match="is a RGB image; a mask must be a palette or grey PNG"):
        masks.read_values(path, CLASS_OF_VALUE)
    path.write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read as a mask"):
        masks.read_values(path, CLASS_OF_VALUE)


def test_segments_are_numbered_by_their_colour(tmp_path):
    path = tmp_path / "000000000139.png"
    numbers = np.array([[0, 1, 256], [65536, 3226956, 256]])
    colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1)
    PIL.Image.fromarray(colours.astype(np.uint8)).save(path)
    class_of = {1: 7, 256: 0, 65536: 132, 3226956: 7, 999: 5}
    np.testing.assert_array_equal(masks.read_segments(path, class_of), [[255, 7, 0], [132, 7, 0]])
    del class_of[3226956]
    with pytest.raises(InputError, match="139.png holds segment 3226956, which the panoptic JSON does not list"):
        masks.read_segments(path, class_of)
    PIL.Image.new("L", (20, 30)).save(path)
    with pytest.raises(InputError, match="is a L image; a mask must be an RGB PNG of segments"):
        masks.read_segments(path, class_of)
