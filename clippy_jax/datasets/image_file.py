"""Image files of any kind that Pillow reads."""

import pathlib
from typing import IO

import PIL.Image


def open_image(path: pathlib.Path | IO[bytes]) -> PIL.Image.Image:
    """Opens and fully decodes an image.

    Raises:
      OSError: it is missing, cut short, too large for Pillow's safety limit, or no image.
    """
    try:
        image = PIL.Image.open(path)
        image.load()
    except (ValueError, SyntaxError, EOFError, PIL.Image.DecompressionBombError) as error:
        raise OSError(f"{path}: {error}") from error
    return image
