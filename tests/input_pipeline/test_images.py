import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile

from clippy_jax.datasets import image_file
from clippy_jax.datasets.sample import BadSample
from clippy_jax.input_pipeline.crops import Box
from clippy_jax.input_pipeline.images import decode, training_image
from clippy_jax.input_pipeline.resize import crop_and_resize


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


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_of_sixteen_bits_the_upper_eight_are_used(photo, encoded, kind):
    grey = np.asarray(photo(0, 123, 77).convert("L"))
    data = encoded(Image.fromarray(grey.astype(np.uint16) * 256 + 200), kind)
    np.testing.assert_array_equal(decode(data), np.repeat(grey[:, :, None], 3, axis=2))


def test_floating_point_pixels_are_bad(photo, encoded):
    with pytest.raises(BadSample, match="undecodable"):
        decode(encoded(photo(0).convert("F"), "TIFF"))


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


def exact(data, box, size):
    """The exact transform: Pillow's decoding, crop and antialiased bicubic resize."""
    cropped = Image.fromarray(pillow(data)).crop((box.left, box.top, box.left + box.width, box.top + box.height))
    return np.asarray(cropped.resize((size, size), Image.BICUBIC)).astype(int)


@pytest.fixture
def decoded_sizes(monkeypatch):
    """The sizes that JPEGs are decoded to."""
    sizes, decode_jpeg = [], simplejpeg.decode_jpeg

    def noting(*arguments, **options):
        pixels = decode_jpeg(*arguments, **options)
        sizes.append(pixels.shape[:2])
        return pixels

    monkeypatch.setattr(simplejpeg, "decode_jpeg", noting)
    return sizes


@pytest.mark.parametrize(
    "box, reduced",
    [
        (Box(0, 0, 511, 601), (256, 301)),
        (Box(3, 5, 500, 590), (256, 301)),
        (Box(11, 90, 256, 256), (256, 301)),
        (Box(11, 90, 255, 511), (511, 601)),
        (Box(200, 1, 300, 100), (511, 601)),
    ],
)
def test_large_jpegs_are_decoded_at_half_size(photo, encoded, decoded_sizes, box, reduced):
    data = encoded(photo(0, 601, 511), quality=90)
    difference = np.abs(training_image(data, lambda height, width: box, 64) - exact(data, box, 64))
    assert decoded_sizes == [reduced]
    assert difference.mean() <= 0.5 and difference.max() <= 4


@pytest.mark.parametrize("size, reduced", [(64, (256, 301)), (32, (128, 151)), (16, (64, 76)), (4, (64, 76))])
def test_larger_jpegs_are_reduced_further(photo, encoded, decoded_sizes, size, reduced):
    data, box = encoded(photo(0, 601, 511), quality=90), Box(7, 13, 503, 571)
    difference = np.abs(training_image(data, lambda height, width: box, size) - exact(data, box, size))
    assert decoded_sizes == [reduced]
    assert difference.mean() <= 0.6 and difference.max() <= 4


@pytest.mark.parametrize(
    "mode, options",
    [
        ("RGB", {"progressive": True}),
        ("RGB", {"subsampling": 0}),
        ("RGB", {"subsampling": 1}),
        ("RGB", {"keep_rgb": True}),
        ("L", {}),
    ],
)
def test_every_kind_of_jpeg_is_reduced(photo, encoded, decoded_sizes, mode, options):
    data, box = encoded(photo(1, 303, 261).convert(mode), quality=90, **options), Box(1, 2, 257, 299)
    difference = np.abs(training_image(data, lambda height, width: box, 64) - exact(data, box, 64))
    assert decoded_sizes == [(131, 152)]
    assert difference.mean() <= 0.5 and difference.max() <= 4


@pytest.mark.parametrize(
    "width, height, mode, kind",
    [
        (255, 255, "RGB", "JPEG"),  # a pixel too small
        (4000, 20, "RGB", "JPEG"),
        (1, 300, "RGB", "JPEG"),
        (1, 1, "RGB", "JPEG"),
        (300, 300, "CMYK", "JPEG"),
        (300, 300, "RGB", "PNG"),
    ],
)
def test_other_images_are_decoded_exactly(photo, encoded, width, height, mode, kind):
    data, box = encoded(photo(1, width, height).convert(mode), kind), Box(0, 0, height, width)
    image = training_image(data, lambda height, width: Box(0, 0, height, width), 64)
    np.testing.assert_array_equal(image, crop_and_resize(pillow(data), box, 64))


def test_a_large_jpeg_that_pillow_forgives_is_used(photo, encoded):
    data = bytearray(encoded(photo(0, 303, 261), quality=90))
    data[len(data) // 2 : len(data) // 2 + 2] = b"\xff\xd3"  # a marker out of place
    with pytest.raises(ValueError):
        simplejpeg.decode_jpeg(bytes(data))
    box = Box(1, 2, 257, 299)
    image = training_image(bytes(data), lambda height, width: box, 64)
    np.testing.assert_array_equal(image, crop_and_resize(pillow(bytes(data)), box, 64))


def test_large_cut_off_jpegs_are_bad(photo, encoded):
    data = encoded(photo(0, 303, 261), quality=90)
    for length in (len(data) // 2, len(data) - 30):
        with pytest.raises(BadSample, match="truncated"):
            training_image(data[:length], lambda height, width: Box(0, 0, height, width), 64)


def bomb(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG")
    data = bytearray(out.getvalue())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize("make", [decode, lambda data: training_image(data, lambda h, w: Box(0, 0, h, w), 224)])
def test_a_decompression_bomb_is_never_decoded(make, monkeypatch):
    """At no size: neither by the shortcut nor by Pillow, which has a limit of its own, the same."""
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *arguments, **options: pytest.fail("was decoded"))
    with pytest.raises(BadSample, match="too large"):
        make(bomb(20_000, 20_000))


@pytest.mark.parametrize("kind", image_file.FORMATS)
def test_the_limit_is_the_same_for_every_format(photo, encoded, monkeypatch, kind):
    """By the header alone: no pixel is decoded."""
    data = encoded(photo(0, 90, 60), kind)
    whole = Box(0, 0, 60, 90)
    assert decode(data, 5400).shape == (60, 90, 3)
    assert training_image(data, lambda height, width: whole, 8, 5400).shape == (8, 8, 3)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *arguments, **options: pytest.fail("was decoded"))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("was decoded"))
    for make in (decode, lambda data, limit: training_image(data, lambda height, width: whole, 8, limit)):
        with pytest.raises(BadSample, match="too large"):
            make(data, 5399)


def test_postscript_is_no_image():
    """Pillow would start Ghostscript on it."""
    with pytest.raises(BadSample, match="undecodable"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
