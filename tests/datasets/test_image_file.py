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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_damaged_note_of_the_camera_leaves_the_image_as_it_is(photo, encoded, kind):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    noted = exif.tobytes()
    assert image_file.upright(image_file.open_image(io.BytesIO(encoded(photo(0), kind, exif=noted)))).size == (60, 80)
    for broken in (noted[:9], noted[:-3], noted[:6] + b"XX" + noted[8:], noted[:14] + b"\xff" * 12):
        image = image_file.open_image(io.BytesIO(encoded(photo(0), kind, exif=broken)))
        assert image_file.upright(image).convert("RGB").size in ((80, 60), (60, 80))


def test_every_mode_becomes_rgb_or_is_an_os_error():
    """Whatever a TIFF may hold: floating-point numbers, colours of CIE Lab, ..."""
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F", "LAB", "RGBX"):
        out = io.BytesIO()
        PIL.Image.new(mode, (8, 6)).save(out, "TIFF")
        try:
            image = image_file.open_image(io.BytesIO(out.getvalue()))
        except OSError:
            assert mode in ("F", "LAB", "YCbCr")  # of the last Pillow writes less than it wants to read
        else:
            assert image.convert("RGB").size == (8, 6)
