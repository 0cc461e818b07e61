"""Images that strangers hand in: bounded before they are decoded, upright, opaque, in RGB."""

import os
import pathlib

import PIL.Image

from clippy_jax.datasets import image_file
from clippy_jax.errors import InputError
from clippy_jax.inference.image import open_image

MOST_BYTES = 20 * 2**20
MOST_PIXELS = 24_000_000


def open_upload(path: str | os.PathLike | None) -> PIL.Image.Image:
    """Decodes an uploaded file: the first frame, the way up that its camera noted, on white where it is transparent.

    Raises:
      InputError: there is none, it is no image, or it is larger than `MOST_BYTES` or `MOST_PIXELS`.
    """
    if not path:
        raise InputError("No image yet: drop one above, or choose an example")
    path = pathlib.Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path.name} is larger than {MOST_BYTES // 2**20} MB: choose a smaller file")
        with image_file.open_header(path) as header:
            width, height = header.size
        if width * height > MOST_PIXELS:
            raise InputError(
                f"{path.name} has {width} x {height} pixels: choose an image of at most "
                f"{MOST_PIXELS // 10**6} megapixels"
            )
        return open_image(image_file.open_image(path))
    except OSError:
        raise InputError(f"{path.name} cannot be read as an image: choose a JPEG, PNG or WebP file") from None
