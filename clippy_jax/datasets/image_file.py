"""Image files: which formats are read, and how large an image may be."""

import os
from typing import IO

import PIL.Image

# Of all that Pillow knows, what images on the web are. Others may start programs (EPS) or fetch further files.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
MAX_PIXELS = 2 * PIL.Image.MAX_IMAGE_PIXELS  # half a gigabyte of RGB; above, Pillow refuses a decompression bomb


class ImageTooLarge(OSError):
    """An image has more than `MAX_PIXELS` pixels, or more than there is memory for."""


def open_header(file: str | os.PathLike | IO[bytes]) -> PIL.Image.Image:
    """Opens an image of one of the `FORMATS` without decoding its pixels.

    Raises:
      ImageTooLarge: it has more than `MAX_PIXELS` pixels.
      OSError: it is missing or no image.
    """
    return _read(file, decode=False)


def open_image(file: str | os.PathLike | IO[bytes]) -> PIL.Image.Image:
    """Opens an image as `open_header` does and decodes it; raises `OSError` too where it is cut short or damaged."""
    return _read(file, decode=True)


def _read(file: str | os.PathLike | IO[bytes], decode: bool) -> PIL.Image.Image:
    try:
        image = PIL.Image.open(file, formats=FORMATS)
        if decode:
            image.load()
        return image
    except OSError:
        raise
    except (PIL.Image.DecompressionBombError, MemoryError) as error:
        raise ImageTooLarge(f"{file}: {error or 'too large for the memory'}") from error
    except Exception as error:  # decoders raise what they like: SyntaxError, ValueError, EOFError, zlib.error, ...
        raise OSError(f"{file}: {error}") from error
