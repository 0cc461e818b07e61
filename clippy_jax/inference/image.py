"""An image to use, as opposed to one that a benchmark's protocol prescribes how to read."""

import os
import pathlib

import jax
import numpy as np
import PIL.Image
from jaxtyping import UInt8

from clippy_jax.datasets import image_file
from clippy_jax.errors import InputError

PAPER = (255, 255, 255)  # what shows through a transparent image

Image = str | os.PathLike | PIL.Image.Image | UInt8[np.ndarray, "H W 3"]


def open_image(image: Image) -> PIL.Image.Image:
    """An image from a path, of Pillow or from an array, in RGB and the way up that its camera noted (EXIF).

    What is transparent shows white paper.

    Raises:
      InputError: the file does not exist or cannot be read as an image.
      ValueError: an array is not uint8 [H, W, 3], or the value is no image at all.
    """
    if isinstance(image, (np.ndarray, jax.Array)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise ValueError(f"an image must be an array of uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
        return PIL.Image.fromarray(np.asarray(image))
    if isinstance(image, (str, os.PathLike)):
        if "://" in os.fspath(image):
            raise InputError(f"{image} is an address, not a file; fetch it first")
        path = pathlib.Path(os.path.expanduser(image))
        try:
            image = image_file.open_image(path)
        except image_file.ImageTooLarge as error:
            raise InputError(str(error)) from None
        except OSError:
            reason = "" if path.exists() else ": it does not exist"
            raise InputError(f"{path} cannot be read as an image{reason}") from None
    if not isinstance(image, PIL.Image.Image):
        raise ValueError(f"an image must be a path, a Pillow image or a uint8 array, not {type(image).__name__}")
    image = image_file.upright(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    paper = PIL.Image.new("RGBA", image.size, PAPER)
    return PIL.Image.alpha_composite(paper, image).convert("RGB")
