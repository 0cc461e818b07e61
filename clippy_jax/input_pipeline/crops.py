"""Where a training image is cut out of a photo."""

import math
from collections.abc import Sequence
from typing import NamedTuple

ATTEMPTS = 10
UNIFORMS = 2 * ATTEMPTS + 2  # random numbers that one crop takes


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int


def random_resized_crop(
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    uniforms: Sequence[float],
) -> Box:
    """The box that torchvision's `RandomResizedCrop` would cut, from given random numbers.

    Ten times a share of the area and a logarithmically uniform aspect ratio are drawn; the first rectangle that fits
    is placed at random. If none fits, it is the largest central one with an allowed aspect ratio. With (1, 1) for both
    ranges nothing is drawn: it is the largest central square.

    Args:
      height, width: of the photo in pixels.
      scale: range of the share of the photo's area.
      ratio: range of width / height.
      uniforms: `UNIFORMS` numbers in [0, 1): (area, ratio) for each attempt, then the vertical and horizontal place.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for attempt in range(0 if scale == ratio == (1, 1) else ATTEMPTS):
        area = height * width * (scale[0] + uniforms[2 * attempt] * (scale[1] - scale[0]))
        aspect = math.exp(low + uniforms[2 * attempt + 1] * (high - low))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(uniforms[-2] * (height - crop_height + 1))
            left = int(uniforms[-1] * (width - crop_width + 1))
            return Box(top, left, crop_height, crop_width)

    crop_width = min(width, max(1, round(height * ratio[1])))
    crop_height = min(height, max(1, round(width / ratio[0])))
    return Box((height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width)
