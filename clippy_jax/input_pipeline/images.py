"""From an encoded image to its pixels, and to those that the model trains on.

Everything that Pillow opens is an image here; sound JPEGs take a shortcut (simplejpeg, which is libjpeg-turbo without a
detour) to the same pixels. Large JPEGs are decoded for training at a half, a quarter or an eighth of their sides, which
libjpeg does in the frequency domain. All of it releases Python's global lock.
"""

import io
from collections.abc import Callable

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from clippy_jax.datasets.sample import BadSample
from clippy_jax.input_pipeline.crops import Box
from clippy_jax.input_pipeline.resize import crop_and_resize

_JPEG = b"\xff\xd8"  # how every JPEG starts
_PLAIN_COLOURS = ("YCbCr", "Gray", "RGB")  # of CMYK, Pillow knows which way round Adobe writes it
_REDUCTIONS = (1, 2, 4, 8)  # libjpeg-turbo is slower at sizes between them than at full size
_SPARE = 2  # a reduced box has at least this many times the size asked for; at 1 the mean error reaches 4 / 255


def decode(data: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes any image that Pillow opens to RGB, as its plain `convert("RGB")` does; EXIF rotation is not applied.

    Raises:
      BadSample: it is "truncated" or otherwise "undecodable".
    """
    if data.startswith(_JPEG):
        try:
            if simplejpeg.decode_jpeg_header(data)[2] in _PLAIN_COLOURS:
                return simplejpeg.decode_jpeg(data, "RGB")
        except ValueError:
            pass  # damaged; Pillow says how, and forgives more
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # decoders raise what they like: OSError, SyntaxError, ValueError, zlib.error, ...
        raise BadSample("truncated" if "truncated" in str(error).lower() else "undecodable") from error


def training_image(data: bytes, crop: Callable[[int, int], Box], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Decodes an image, cuts out a box and resizes it to `size` x `size` pixels.

    A JPEG whose box has at least four times that size is decoded at a reduced one: a mean error of 0.3 to 1.0 / 255.
    Otherwise the pixels are those of `decode`.

    Args:
      crop: makes the box from the height and the width of the whole image in pixels.

    Raises:
      BadSample: as `decode` does.
    """
    if data.startswith(_JPEG):
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            if min(height, width) >= 2 * _SPARE * size and colours in _PLAIN_COLOURS:
                box = crop(height, width)
                reduction = max(r for r in _REDUCTIONS if r == 1 or min(box.height, box.width) >= r * _SPARE * size)
                smallest = {"min_height": -(-height // reduction), "min_width": -(-width // reduction)}
                return crop_and_resize(simplejpeg.decode_jpeg(data, "RGB", **smallest), box, size, reduction)
        except ValueError:
            pass  # damaged: `decode` knows what to do
    image = decode(data)
    return crop_and_resize(image, crop(*image.shape[:2]), size)
