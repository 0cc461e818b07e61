import io

import numpy as np
import pytest
from PIL import Image

from clippy_jax.input_pipeline.crops import Box
from clippy_jax.input_pipeline.images import crop_and_resize, decode
from clippy_jax.input_pipeline.sample import BadSample


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize(
    "mode, kind, options",
    [
        ("RGB", "JPEG", {"quality": 90}),
        ("RGB", "JPEG", {"quality": 60, "progressive": True}),
        ("RGB", "JPEG", {"subsampling": 0}),
        ("RGB", "JPEG", {"subsampling": 1}),
        ("RGB", "JPEG", {"keep_rgb": True}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("RGB", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("LA", "PNG", {}),
        ("P", "PNG", {}),
        ("1", "PNG", {}),
        ("P", "GIF", {}),
        ("RGB", "WEBP", {"lossless": True}),
        ("RGBA", "WEBP", {}),
        ("RGB", "BMP", {}),
        ("CMYK", "TIFF", {}),
    ],
)
def test_pixels_are_pillows(photo, encoded, mode, kind, options):
    data = encoded(photo(0, 123, 77).convert(mode), kind, **options)
    pixels = decode(data)
    assert pixels.shape == (77, 123, 3) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, pillow(data))


def test_exif_rotation_is_not_applied(photo, encoded):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    assert decode(encoded(photo(0, 40, 20), exif=exif)).shape == (20, 40, 3)


def test_a_jpeg_that_pillow_forgives_is_used(photo, encoded):
    data = bytearray(encoded(photo(0), quality=90))
    data[len(data) // 2 : len(data) // 2 + 20] = bytes(20)
    np.testing.assert_array_equal(decode(bytes(data)), pillow(bytes(data)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_cut_off_images_are_bad(photo, encoded, kind):
    data = encoded(photo(0), kind)
    for length in (len(data) // 2, len(data) - 30):
        with pytest.raises(BadSample) as bad:
            decode(data[:length])
        assert bad.value.cause == ("undecodable" if kind == "WEBP" else "truncated")


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"\xff\xd8" + b"x" * 100, b"RIFF" + b"x" * 99])
def test_what_is_no_image_is_bad(data):
    with pytest.raises(BadSample, match="undecodable"):
        decode(data)


@pytest.mark.parametrize(
    "width, height, box, size",
    [
        (330, 300, Box(5, 9, 280, 310), 224),
        (224, 224, Box(0, 0, 224, 224), 224),
        (1000, 700, Box(100, 50, 600, 900), 224),
        (120, 90, Box(3, 2, 80, 100), 224),
        (300, 200, Box(0, 0, 200, 300), 64),
        (300, 200, Box(10, 20, 150, 150), 100),  # not a multiple of the block
        (300, 200, Box(10, 20, 2, 150), 40),
        (90, 60, Box(0, 0, 60, 90), 7),
        (1, 1, Box(0, 0, 1, 1), 32),
    ],
)
def test_crop_and_resize_agrees_with_pillow(photo, width, height, box, size):
    image = photo(1, width, height)
    cropped = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    expected = np.asarray(cropped.resize((size, size), Image.BICUBIC)).astype(int)
    difference = np.abs(crop_and_resize(np.asarray(image), box, size) - expected)
    assert difference.mean() <= 0.25 and difference.max() <= 2


def test_resize_agrees_exactly_where_pillow_rounds_once(photo):
    """Pillow resizes float images without rounding; so does this, up to its last step."""
    image = photo(2, 311, 257)
    expected = [np.asarray(channel.convert("F").resize((96, 96), Image.BICUBIC)) for channel in image.split()]
    expected = np.clip(np.rint(np.stack(expected, -1)), 0, 255)
    difference = np.abs(crop_and_resize(np.asarray(image), Box(0, 0, 257, 311), 96) - expected)
    assert difference.mean() < 1e-3  # a value just at .5 may fall either way
