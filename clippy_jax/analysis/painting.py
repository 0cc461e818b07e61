"""Images with what the model says of them painted on: segments in colours, heat maps, the chosen patch."""

import functools
import pathlib
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from jaxtyping import Bool, Float, UInt8

from clippy_jax.analysis.palette import Colour

SHOWN_PIXELS = 896  # along the long side of an image on the page
HEAT_OPACITY = 0.75
FRAME = ("black", *["white"] * 4, "black")  # of the chosen patch, from the inside out: seen on any image
HEAT_COLOURS = "magma"  # of matplotlib: dark is unlike, bright is like
LETTER_PIXELS, LINE_PIXELS, GAP_PIXELS, SWATCH_PIXELS = 20, 34, 12, 22  # of a legend
UNCOLOURED = (128, 128, 128)  # stands for a label without a colour


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height, in pixels, at which the page shows an image of a width and height; small ones are enlarged."""
    scale = SHOWN_PIXELS / max(size)
    width, height = (max(1, round(length * scale)) for length in size)
    return width, height


def shown(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image at `shown_size`."""
    return image.resize(shown_size(image.size), PIL.Image.Resampling.LANCZOS)


def overlay(
    image: PIL.Image.Image, labels: UInt8[np.ndarray, "H W"], colours: Mapping[int, Colour], opacity: float
) -> PIL.Image.Image:
    """The image as the page shows it, its segments tinted and parted by white lines.

    Args:
      image: in RGB.
      labels: of its pixels.
      colours: by label; a label without one keeps the image's own colours.
      opacity: of the tint, from 0 (none) to 1.
    """
    image = shown(image)
    labels = np.asarray(PIL.Image.fromarray(labels).resize(image.size, PIL.Image.Resampling.NEAREST))
    pixels = np.asarray(image, np.float32)
    tints, tinted = np.zeros((256, 3), np.float32), np.zeros((256, 1), np.float32)
    for label, colour in colours.items():
        tints[label], tinted[label] = colour, opacity
    pixels = pixels + tinted[labels] * (tints[labels] - pixels)
    if opacity > 0:
        pixels[_borders(labels)] = 255
    return PIL.Image.fromarray(pixels.round().astype(np.uint8))


def heat_map(
    image: PIL.Image.Image, values: Float[np.ndarray, "h w"], limits: tuple[float, float] | None = None
) -> PIL.Image.Image:
    """A value of every patch as a colour over the image in grey, from dark to bright.

    Args:
      image: in RGB.
      values: of its patches.
      limits: the darkest and the brightest value; by default the lowest and the highest.
    """
    image = shown(image)
    lowest, highest = limits or (values.min(), values.max())
    scaled = (values - lowest) / max(highest - lowest, 1e-6)
    smooth = PIL.Image.fromarray(scaled.astype(np.float32)).resize(image.size, PIL.Image.Resampling.BILINEAR)
    colours = matplotlib.colormaps[HEAT_COLOURS](np.asarray(smooth))[..., :3] * 255
    grey = np.asarray(image.convert("L"), np.float32)[..., None]
    return PIL.Image.fromarray((grey + HEAT_OPACITY * (colours - grey)).round().astype(np.uint8))


def heat_map_with_legend(image: PIL.Image.Image, values: Float[np.ndarray, "h w"], name: str) -> PIL.Image.Image:
    """`heat_map` of the cosines with a name, and below it which colours stand for the lowest and the highest."""
    lowest, highest = (
        (round(255 * red), round(255 * green), round(255 * blue))
        for red, green, blue, _ in matplotlib.colormaps[HEAT_COLOURS]([0.0, 1.0])
    )
    entries = [(f"{name}: cosine from {values.min():.2f}", lowest), (f"to {values.max():.2f}", highest)]
    return with_legend(heat_map(image, values), entries)


def mark_patch(image: PIL.Image.Image, patch: tuple[int, int], grid: tuple[int, int]) -> PIL.Image.Image:
    """A copy with a frame around the patch at a row and column of a grid."""
    image = image.copy()
    (row, column), (rows, columns) = patch, grid
    left, right = (round(edge * image.width / columns) for edge in (column, column + 1))
    top, bottom = (round(edge * image.height / rows) for edge in (row, row + 1))
    pen = PIL.ImageDraw.Draw(image)
    for outwards, line in enumerate(FRAME):
        pen.rectangle((left - outwards, top - outwards, right + outwards, bottom + outwards), outline=line)
    return image


def with_legend(image: PIL.Image.Image, entries: Sequence[tuple[str, Colour]]) -> PIL.Image.Image:
    """The image with a legend on white below it: each text behind its colour, in as many lines as that takes."""
    font = _font()
    width = image.width + GAP_PIXELS
    places, x, line = [], GAP_PIXELS, 0
    for text, _ in entries:
        length = SWATCH_PIXELS + GAP_PIXELS // 2 + round(font.getlength(text)) + 2 * GAP_PIXELS
        if x + length > width and x > GAP_PIXELS:
            x, line = GAP_PIXELS, line + 1
        places.append((x, image.height + GAP_PIXELS // 2 + line * LINE_PIXELS))
        x += length
    sheet = PIL.Image.new("RGB", (image.width, image.height + (line + 1) * LINE_PIXELS + GAP_PIXELS), "white")
    sheet.paste(image)
    pen = PIL.ImageDraw.Draw(sheet)
    for (text, colour), (x, y) in zip(entries, places):
        top = y + (LINE_PIXELS - SWATCH_PIXELS) // 2
        pen.rounded_rectangle((x, top, x + SWATCH_PIXELS, top + SWATCH_PIXELS), 4, fill=colour)
        pen.text((x + SWATCH_PIXELS + GAP_PIXELS // 2, y + LINE_PIXELS // 2), text, "black", font, anchor="lm")
    return sheet


@functools.cache
def _font() -> PIL.ImageFont.FreeTypeFont:
    """The one that comes with matplotlib, which knows more letters than Pillow's."""
    path = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return PIL.ImageFont.truetype(str(path), LETTER_PIXELS)


def _borders(labels: UInt8[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The pixels on either side of where the label changes."""
    borders = np.zeros(labels.shape, bool)
    across, down = labels[:, :-1] != labels[:, 1:], labels[:-1] != labels[1:]
    borders[:, :-1] |= across
    borders[:, 1:] |= across
    borders[:-1] |= down
    borders[1:] |= down
    return borders
