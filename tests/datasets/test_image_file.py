import io

import numpy as np
import PIL.Image
import pytest

from clippy_jax.datasets import image_file


@pytest.mark.parametrize("kind", image_file.FORMATS)
def test_every_format_is_read(photo, encoded, tmp_path, kind):
    data = encoded(photo(0), kind)
    (tmp_path / "image").write_bytes(data)
    expected = np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))
    for file in (io.BytesIO(data), tmp_path / "image", str(tmp_path / "image")):
        assert image_file.open_header(file).size == (80, 60)
        np.testing.assert_array_equal(np.asarray(image_file.open_image(file).convert("RGB")), expected)


def test_a_phones_jpeg_with_a_second_picture_is_read(photo):
    out = io.BytesIO()
    photo(0).save(out, "MPO", save_all=True, append_images=[photo(1)])
    assert image_file.open_image(io.BytesIO(out.getvalue())).size == (80, 60)


@pytest.mark.parametrize("data", [b"", b"<html>gone</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_image_is_an_os_error(data):
    with pytest.raises(OSError):
        image_file.open_header(io.BytesIO(data))


def test_damage_is_an_os_error(photo, encoded, tmp_path):
    for kind in ("JPEG", "PNG", "WEBP"):
        with pytest.raises(OSError):
            image_file.open_image(io.BytesIO(encoded(photo(0), kind)[:-500]))
    with pytest.raises(FileNotFoundError):
        image_file.open_image(tmp_path / "nowhere.jpg")
