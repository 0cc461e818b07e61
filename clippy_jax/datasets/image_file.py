"""Image files: which formats are read, and how large an image may be."""

import os
from typing import IO

import numpy as np
import PIL.Image
import PIL.ImageOps

from clippy_jax.errors import reading

# Of all that Pillow knows, what images on the web are. Others may start programs (EPS) or fetch further files.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
# What image files are called: with the readable endings, and with those of formats that are not read, for which a file
# in a tree of images counts as unreadable instead of being passed over.
ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
UNREAD_ENDINGS = (".heic", ".heif", ".jp2", ".jxl", ".svg", ".psd", ".dng", ".tga")
MAX_PIXELS = 2 * PIL.Image.MAX_IMAGE_PIXELS  # half a gigabyte of RGB; above, Pillow refuses a decompression bomb
_NO_RGB = ("F", "LAB", "La", "RGBa")  # modes that nothing can be made of: a range or a white point is not known
_SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # of which `convert` would make white


class ImageTooLarge(OSError):
    """An image has more pixels than are allowed, or than there is memory for."""


def open_header(file: str | os.PathLike | IO[bytes]) -> PIL.Image.Image:
    """Opens an image of one of the `FORMATS` without decoding its pixels.

    Raises:
      ImageTooLarge: it has more than `MAX_PIXELS` pixels.
      OSError: it is missing or no image.
    """
    return _read(file, MAX_PIXELS, decode=False)


def open_image(file: str | os.PathLike | IO[bytes], max_pixels: int = MAX_PIXELS) -> PIL.Image.Image:
    """Opens an image and decodes it; of grey images with 16 bits a pixel, the upper 8.

    Raises:
      ImageTooLarge: its header says that it has more than `max_pixels` pixels.
      OSError: it is missing, no image, cut short or damaged.
    """
    return _read(file, max_pixels, decode=True)


def _read(file: str | os.PathLike | IO[bytes], max_pixels: int, decode: bool) -> PIL.Image.Image:
    with reading(file, into=OSError):
        try:
            image = PIL.Image.open(file, formats=FORMATS)
            if image.width * image.height > max_pixels:
                raise ImageTooLarge(f"{file}: {image.width} x {image.height} pixels are more than {max_pixels:,}")
            return _decoded(image) if decode else image
        except (PIL.Image.DecompressionBombError, MemoryError) as error:
            raise ImageTooLarge(f"{file}: {error or 'too large for the memory'}") from error


def _decoded(image: PIL.Image.Image) -> PIL.Image.Image:
    image.load()
    if image.mode in _NO_RGB:
        raise OSError(f"its pixels are {image.mode}, which cannot be turned into RGB")
    if image.mode in _SIXTEEN_BITS:
        grey = PIL.Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
        grey.info = image.info  # EXIF and the like
        return grey
    return image


def upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image the way up that its camera noted (EXIF), or as it is where that note is damaged."""
    try:
        return PIL.ImageOps.exif_transpose(image)
    except Exception:  # as many kinds as there are ways to be damaged
        return image
