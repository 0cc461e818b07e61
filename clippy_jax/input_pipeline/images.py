"""From an encoded image to its pixels, and to those that the model trains on.

Pillow opens them (`datasets/image_file.py`); sound JPEGs take a shortcut (simplejpeg, which is libjpeg-turbo without a
detour) to the same pixels. Large JPEGs are decoded for training at a half, a quarter or an eighth of their sides, which
libjpeg does in the frequency domain. All of it releases Python's global lock.
"""

import contextlib
import io
from collections.abc import Callable

import numpy as np
import simplejpeg
from jaxtyping import UInt8

from clippy_jax.datasets import image_file
from clippy_jax.datasets.sample import BadSample
from clippy_jax.input_pipeline.crops import Box
from clippy_jax.input_pipeline.resize import crop_and_resize

_JPEG = b"\xff\xd8"  # how every JPEG starts
_PLAIN_COLOURS = ("YCbCr", "Gray", "RGB")  # of CMYK, Pillow knows which way round Adobe writes it
_REDUCTIONS = (1, 2, 4, 8)  # libjpeg-turbo is slower at sizes between them than at full size
_SPARE = 2  # a reduced box has at least this many times the size asked for; at 1 the mean error reaches 4 / 255


def decode(data: bytes, max_pixels: int = image_file.MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes an image to RGB, as Pillow's plain `convert("RGB")` does; EXIF rotation is not applied.

    Raises:
      BadSample: it is "too large" (by its header), "truncated" or otherwise "undecodable".
    """
    if _size_of_plain_jpeg(data, max_pixels):
        with contextlib.suppress(Exception):  # damaged; Pillow says how, and forgives more
            return simplejpeg.decode_jpeg(data, "RGB")
    try:
        return np.asarray(image_file.open_image(io.BytesIO(data), max_pixels).convert("RGB"))
    except image_file.ImageTooLarge as error:
        raise BadSample("too large") from error
    except Exception as error:  # converting decodes what is left to decode
        raise BadSample("truncated" if "truncated" in str(error).lower() else "undecodable") from error


def training_image(
    data: bytes,
    crop: Callable[[int, int], Box],
    size: int,
    max_pixels: int = image_file.MAX_PIXELS,
    mirror: bool = False,
) -> UInt8[np.ndarray, "size size 3"]:
    """Decodes an image, cuts out a box and resizes it to `size` x `size` pixels.

    A JPEG whose box has at least four times that size is decoded at a reduced one: a mean error of 0.3 to 1.0 / 255.
    Otherwise the pixels are those of `decode`.

    Args:
      crop: makes the box from the height and the width of the whole image in pixels.
      max_pixels: that an image may have.
      mirror: whether left and right change places.

    Raises:
      BadSample: as `decode` does.
    """
    height, width = _size_of_plain_jpeg(data, max_pixels) or (0, 0)
    if min(height, width) >= 2 * _SPARE * size:
        box = crop(height, width)
        reduction = max(r for r in _REDUCTIONS if r == 1 or min(box.height, box.width) >= r * _SPARE * size)
        smallest = {"min_height": -(-height // reduction), "min_width": -(-width // reduction)}
        reduced = None
        with contextlib.suppress(Exception):  # damaged: `decode` knows what to do
            reduced = simplejpeg.decode_jpeg(data, "RGB", **smallest)
        if reduced is not None:
            return crop_and_resize(reduced, box, size, reduction, mirror)
    image = decode(data, max_pixels)
    return crop_and_resize(image, crop(*image.shape[:2]), size, mirror=mirror)


def _size_of_plain_jpeg(data: bytes, max_pixels: int) -> tuple[int, int] | None:
    """Height and width of a JPEG that may take the shortcut; None for anything else."""
    if not data.startswith(_JPEG):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except Exception:  # Pillow says what is wrong
        return None
    return (height, width) if colours in _PLAIN_COLOURS and height * width <= max_pixels else None
