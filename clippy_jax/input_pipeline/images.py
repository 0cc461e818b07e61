"""From an encoded image to the pixels that the model trains on.

Everything that Pillow opens is an image here; sound JPEGs take a shortcut (simplejpeg, which is libjpeg-turbo without a
detour) to the same pixels. The bicubic antialiased resize is Pillow's filter as two matrix products, in less than half
the time of Pillow's own and a third of `tf.image.resize`'s: an output pixel needs few input pixels, so the matrices
are banded, and they are multiplied in blocks of output pixels. All of it releases Python's global lock.
"""

import functools
import io
from typing import NamedTuple

import numpy as np
import simplejpeg
from jaxtyping import Float32, UInt8
from PIL import Image

from clippy_jax.input_pipeline.crops import Box
from clippy_jax.input_pipeline.sample import BadSample

_JPEG = b"\xff\xd8"  # how every JPEG starts
_PLAIN_COLOURS = ("YCbCr", "Gray", "RGB")  # of CMYK, Pillow knows which way round Adobe writes it
_BLOCK = 16  # output pixels per matrix product: large enough for BLAS, small enough for the band to stay narrow


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


def crop_and_resize(image: UInt8[np.ndarray, "H W 3"], box: Box, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Cuts out a box and resizes it, bicubic (a = -0.5) with antialiasing, as Pillow's `crop` and `resize` do.

    Pillow rounds to eight bits between its two passes and this does not, hence a mean difference of 0.2 / 255.
    """
    pixels = image[box.top : box.top + box.height, box.left : box.left + box.width]
    pixels = pixels.astype(np.float32).reshape(box.height, box.width * 3)
    rows, columns = _bands(box.height, size), _interleaved_bands(box.width, size)
    padded = len(rows.starts) * _BLOCK

    squeezed = np.empty((padded, box.width * 3), np.float32)
    for i, start in enumerate(rows.starts):
        stop = start + rows.weights.shape[2]
        np.matmul(rows.weights[i], pixels[start:stop], out=squeezed[i * _BLOCK : (i + 1) * _BLOCK])

    resized = np.empty((size, padded * 3), np.float32)
    for i, start in enumerate(columns.starts):
        stop = start + columns.weights.shape[1]
        block = slice(i * _BLOCK * 3, (i + 1) * _BLOCK * 3)
        np.matmul(squeezed[:size, start:stop], columns.weights[i], out=resized[:, block])

    np.rint(resized, out=resized)
    np.clip(resized, 0, 255, out=resized)
    return resized[:, : size * 3].astype(np.uint8).reshape(size, size, 3)


class _Bands(NamedTuple):
    """A banded matrix in blocks: block i maps the inputs from `starts[i]` on to `_BLOCK` output pixels."""

    starts: tuple[int, ...]
    weights: Float32[np.ndarray, "blocks ..."]


@functools.lru_cache(maxsize=512)
def _bands(inputs: int, outputs: int) -> _Bands:
    """Weights [blocks, _BLOCK, K] of each block's output pixels over K input pixels; rows beyond `outputs` are 0."""
    scale = inputs / outputs
    stretch = max(scale, 1.0)  # the filter widens where the image shrinks: antialiasing
    centres = (np.arange(outputs) + 0.5) * scale
    first = np.maximum((centres - 2 * stretch + 0.5).astype(int), 0)
    last = np.minimum((centres + 2 * stretch + 0.5).astype(int), inputs)

    blocks = -(-outputs // _BLOCK)
    starts = first[::_BLOCK]
    ends = last[np.minimum(np.arange(1, blocks + 1) * _BLOCK, outputs) - 1]
    band = int((ends - starts).max())
    starts = np.minimum(starts, inputs - band)

    weights = np.zeros((blocks * _BLOCK, band))
    positions = np.repeat(starts, _BLOCK)[:outputs, None] + np.arange(band) + 0.5
    weights[:outputs] = _cubic((positions - centres[:, None]) / stretch)
    weights[:outputs] /= weights[:outputs].sum(axis=1, keepdims=True)
    return _Bands(tuple(starts.tolist()), weights.reshape(blocks, _BLOCK, band).astype(np.float32))


@functools.lru_cache(maxsize=512)
def _interleaved_bands(inputs: int, outputs: int) -> _Bands:
    """The same for rows of interleaved RGB, to be multiplied from the right: weights [blocks, K * 3, _BLOCK * 3]."""
    starts, weights = _bands(inputs, outputs)
    blocks, _, band = weights.shape
    interleaved = np.zeros((blocks, band, 3, _BLOCK, 3), np.float32)
    for channel in range(3):
        interleaved[:, :, channel, :, channel] = weights.transpose(0, 2, 1)
    return _Bands(tuple(start * 3 for start in starts), interleaved.reshape(blocks, band * 3, _BLOCK * 3))


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0))
