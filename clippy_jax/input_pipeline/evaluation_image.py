"""Images as an evaluation sees them, by Pillow: the reference that published numbers were measured with."""

import numpy as np
import PIL.Image
from jaxtyping import UInt8

# A panorama's long side is squeezed to this many short sides, which bounds the memory that one image can take.
LONGEST_ASPECT = 4
# Of a strip longer than this many short sides the middle is cut out before it is enlarged, for the same reason.
LONGEST_STRIP = 64


def centre_crop(image: PIL.Image.Image, image_size: int) -> UInt8[np.ndarray, "H W 3"]:
    """Short side to `image_size` by antialiased bicubic, then the central square, then RGB.

    Equal, bit for bit, to the public code's pipeline: the long side is cut to an integer and the crop's offset rounded
    as Python rounds. The conversion to RGB comes last, so Pillow resizes palette and 1-bit images to the nearest pixel
    and RGBA with premultiplied alpha. EXIF orientation is not applied.
    """
    short = min(image.size)
    if max(image.size) > LONGEST_STRIP * short:
        left, top = (max(0, length - LONGEST_STRIP * short) // 2 for length in image.size)
        image = image.crop((left, top, image.width - left, image.height - top))
    scaled = tuple(int(image_size * length / short) for length in image.size)
    image = image.resize(scaled, PIL.Image.Resampling.BICUBIC)
    left, top = (round((length - image_size) / 2) for length in image.size)
    image = image.crop((left, top, left + image_size, top + image_size))
    return np.asarray(image.convert("RGB"))


def whole_image_size(width: int, height: int, image_size: int, patch_size: int) -> tuple[int, int]:
    """Width and height, in pixels, at which a whole image is fed.

    The short side becomes `image_size`, the long side follows the aspect ratio to the nearest whole patch (a change of
    at most half a patch). Nothing is cropped, so the patch grid covers the image exactly and a prediction can be
    stretched over labels of any size without a shift.
    """
    short = min(width, height)

    def fed(length: int) -> int:
        patches = round(image_size * length / short / patch_size)
        return min(patches * patch_size, LONGEST_ASPECT * image_size)

    return fed(width), fed(height)


def whole_image(image: PIL.Image.Image, image_size: int, patch_size: int) -> UInt8[np.ndarray, "H W 3"]:
    """The whole image at `whole_image_size`, by antialiased bicubic, then RGB."""
    return resized(image, whole_image_size(*image.size, image_size, patch_size))


def resized(image: PIL.Image.Image, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """The whole image at a width and height, by antialiased bicubic, then RGB."""
    return np.asarray(image.resize(size, PIL.Image.Resampling.BICUBIC).convert("RGB"))


def resized_bilinearly(image: PIL.Image.Image, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """The whole image at a width and height, by bilinear interpolation without antialiasing, as OpenCV has it."""
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    for axis, length in ((1, size[0]), (0, size[1])):
        inputs = pixels.shape[axis]
        position = np.clip((np.arange(length) + 0.5) * (inputs / length) - 0.5, 0, inputs - 1)
        below = np.minimum(position.astype(int), max(inputs - 2, 0))
        share = np.expand_dims((position - below).astype(np.float32), (1, 2) if axis == 0 else (0, 2))
        above = np.minimum(below + 1, inputs - 1)
        pixels = (1 - share) * pixels.take(below, axis) + share * pixels.take(above, axis)
    return np.rint(pixels).astype(np.uint8)
