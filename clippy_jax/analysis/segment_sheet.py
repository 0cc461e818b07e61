"""Images beside their coloured segments, with a legend."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from jaxtyping import Int, UInt8

from clippy_jax.analysis.palette import colour
from clippy_jax.datasets.vocabulary import IGNORED_LABEL

BACKGROUND = "background"

PAPER, INK = (255, 255, 255), (40, 40, 40)
MARGIN, GAP, TEXT_PIXELS = 20, 8, 17
SWATCH = 18
TINT = 0.7  # share of the label's colour in a segment; the rest is the image in grey
FADE = 0.4  # share of white over that grey
MIDDLE_GREY = FADE * 255 + (1 - FADE) * 128
# Pixels along the long side of a panel, by the number of rows: few rows are shown large.
PANEL_PIXELS = {1: 640, 2: 400, 3: 320}
PANEL_PIXELS_OF_MORE_ROWS = 224


@dataclasses.dataclass(frozen=True)
class Row:
    """An image and the label maps to show beside it, all of the image's size."""

    image: PIL.Image.Image
    label_maps: tuple[Int[np.ndarray, "H W"], ...]


def draw(rows: Sequence[Row], columns: Sequence[str], names: Sequence[str]) -> PIL.Image.Image:
    """A sheet with a row for each image and a legend of the labels that occur.

    Small images are enlarged and large ones reduced. Pixels of "background" keep the image's grey, those labelled 255
    are white. From four rows on, the rows of up to four columns stand in two blocks side by side.

    Args:
      rows: images with their label maps.
      columns: a heading for the images and one for each label map.
      names: the name of each label.
    """
    occurring = sorted({int(label) for row in rows for labels in row.label_maps for label in np.unique(labels)})
    occurring = [label for label in occurring if label != IGNORED_LABEL]
    coloured = [label for label in occurring if names[label] != BACKGROUND]
    colours = {label: colour(index) for index, label in enumerate(coloured)}
    long_side = PANEL_PIXELS.get(len(rows), PANEL_PIXELS_OF_MORE_ROWS)
    panels = [
        [_fit(row.image, long_side), *(_paint(row.image, labels, colours, long_side) for labels in row.label_maps)]
        for row in rows
    ]

    blocks = 2 if len(rows) >= 4 and len(columns) <= 4 else 1
    rows_in_block = -(-len(rows) // blocks)
    cell = max(panel.width for row in panels for panel in row)
    heights = [max(row[0].height for row in panels[line::rows_in_block]) for line in range(rows_in_block)]
    block_width = len(columns) * (cell + GAP) - GAP
    width = 2 * MARGIN + blocks * (block_width + 2 * MARGIN) - 2 * MARGIN
    heading = TEXT_PIXELS + 2 * GAP
    legend = _legend([(names[label], colours.get(label)) for label in occurring], width - 2 * MARGIN)
    bottom = MARGIN + heading + sum(heights) + GAP * (len(heights) - 1)

    sheet = PIL.Image.new("RGB", (width, bottom + 2 * GAP + legend.height + MARGIN), PAPER)
    pen, font = PIL.ImageDraw.Draw(sheet), PIL.ImageFont.load_default(TEXT_PIXELS)
    for block in range(blocks):
        left = MARGIN + block * (block_width + 2 * MARGIN)
        for column, title in enumerate(columns):
            pen.text((left + column * (cell + GAP) + cell / 2, MARGIN), title, INK, font, anchor="ma")
        top = MARGIN + heading
        for line, row in enumerate(panels[block * rows_in_block : (block + 1) * rows_in_block]):
            for column, panel in enumerate(row):
                sheet.paste(panel, (left + column * (cell + GAP) + (cell - panel.width) // 2, top))
            top += heights[line] + GAP
    sheet.paste(legend, (MARGIN, bottom + 2 * GAP))
    return sheet


def _size(image: PIL.Image.Image, long_side: int) -> tuple[int, int]:
    """A small image is enlarged by a whole number, so that its pixels and its labels' stay even."""
    scale = long_side / max(image.size)
    scale = int(scale) if scale >= 1 else scale
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _fit(image: PIL.Image.Image, long_side: int) -> PIL.Image.Image:
    return image.convert("RGB").resize(_size(image, long_side), PIL.Image.Resampling.LANCZOS)


def _paint(
    image: PIL.Image.Image,
    labels: Int[np.ndarray, "H W"],
    colours: dict[int, tuple[int, int, int]],
    long_side: int,
) -> PIL.Image.Image:
    """The image in pale grey, its segments tinted and parted by white lines."""
    shown = PIL.Image.fromarray(labels.astype(np.uint8)).resize(_size(image, long_side), PIL.Image.Resampling.NEAREST)
    labels = np.asarray(shown)
    grey = np.asarray(_fit(image, long_side).convert("L"), np.float32)[..., None]
    grey = FADE * 255 + (1 - FADE) * grey
    painted = np.repeat(grey, 3, axis=-1)
    for label, rgb in colours.items():
        segment = labels == label
        painted[segment] = TINT * np.array(rgb) + (1 - TINT) * grey[segment]
    painted[(labels == IGNORED_LABEL) | _borders(labels)] = 255
    return PIL.Image.fromarray(painted.round().astype(np.uint8))


def _borders(labels: UInt8[np.ndarray, "H W"]) -> np.ndarray:
    """The pixels whose right or lower neighbour has another label."""
    borders = np.zeros(labels.shape, bool)
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    borders[:-1] |= labels[:-1] != labels[1:]
    return borders


def _legend(entries: Sequence[tuple[str, tuple[int, int, int] | None]], width: int) -> PIL.Image.Image:
    """Swatches (grey where there is no colour) with names, in as many lines as they need."""
    font = PIL.ImageFont.load_default(TEXT_PIXELS)
    places, left, line = [], 0, 0
    for name, _ in entries:
        needed = SWATCH + GAP + round(font.getlength(name)) + 2 * GAP
        if left and left + needed > width:
            left, line = 0, line + 1
        places.append((left, line * (SWATCH + GAP)))
        left += needed
    legend = PIL.Image.new("RGB", (width, (line + 1) * (SWATCH + GAP)), PAPER)
    pen = PIL.ImageDraw.Draw(legend)
    for (name, rgb), (x, y) in zip(entries, places):
        tinted = tuple(round(TINT * channel + (1 - TINT) * MIDDLE_GREY) for channel in rgb or (MIDDLE_GREY,) * 3)
        pen.rounded_rectangle((x, y, x + SWATCH, y + SWATCH), radius=3, fill=tinted)
        pen.text((x + SWATCH + GAP, y + SWATCH / 2), name, INK, font, anchor="lm")
    return legend
