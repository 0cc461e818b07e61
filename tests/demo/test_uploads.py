import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from clippy_jax.demo import uploads
from clippy_jax.demo.uploads import open_upload
from clippy_jax.errors import InputError


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "I;16", "CMYK"])
def test_every_kind_of_image_comes_in_rgb(tmp_path, mode):
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    PIL.Image.new(mode, (30, 20)).save(path)
    image = open_upload(path)
    assert (image.mode, image.size) == ("RGB", (30, 20))


def test_an_image_stands_the_way_up_that_its_camera_noted(tmp_path):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :15] = 255
    exif = PIL.Image.Exif()
    exif[274] = 6  # the top is on the right
    PIL.Image.fromarray(pixels).save(tmp_path / "image.png", exif=exif)
    upright = np.asarray(open_upload(tmp_path / "image.png"))
    assert upright.shape == (30, 20, 3)
    assert (upright[:15] == 255).all() and (upright[15:] == 0).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path, mode):
    image = PIL.Image.new("RGBA", (8, 4), (200, 200, 200, 255))
    image.paste((0, 0, 0, 0), (0, 0, 4, 4))
    image.convert(mode).save(tmp_path / "image.png")
    pixels = np.asarray(open_upload(tmp_path / "image.png"))
    assert (pixels[:, :4] == 255).all() and (pixels[:, 4:] == 200).all()


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "image.gif", save_all=True, append_images=frames[1:])
    assert open_upload(tmp_path / "image.gif").getpixel((0, 0)) == (255, 0, 0)


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG file that claims a size, without its pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 100)
        + b"IDAT"
    )


def cut_short() -> bytes:
    file = io.BytesIO()
    PIL.Image.effect_noise((64, 64), 50).save(file, "JPEG")
    return file.getvalue()[:600]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a text", "image.jpg cannot be read as an image: choose a JPEG, PNG or WebP file"),
        (b"", "cannot be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read"),
        (cut_short(), "cannot be read"),
        (png_header(6000, 5000), "has 6000 x 5000 pixels: choose an image of at most 24 megapixels"),
        (png_header(60000, 50000), "cannot be read"),  # Pillow's own limit
    ],
)
def test_what_is_no_image_or_too_large_is_said(tmp_path, content, message):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_upload(path)


def test_files_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_BYTES", 2**20)
    (tmp_path / "image.png").write_bytes(bytes(2**20 + 1))
    with pytest.raises(InputError, match="image.png is larger than 1 MB"):
        open_upload(tmp_path / "image.png")


@pytest.mark.parametrize("path, message", [(None, "No image yet"), ("", "No image yet"), ("nowhere.png", "cannot be")])
def test_a_missing_image_is_said(path, message):
    with pytest.raises(InputError, match=message):
        open_upload(path)
