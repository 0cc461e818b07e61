"""Images beside their coloured segments, with a legend."""

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib.figure
import matplotlib.patches
import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Int, UInt8

from clippy_jax.analysis.palette import Colour, colour
from clippy_jax.datasets.vocabulary import BACKGROUND, IGNORED_LABEL

TINT = 0.7  # share of the label's colour in a segment; the rest is the image in grey
FADE = 0.4  # share of white over that grey
MIDDLE_GREY = (round(FADE * 255 + (1 - FADE) * 128),) * 3
# Pixels along the long side of a panel, by the number of rows: few rows are shown large.
PANEL_PIXELS = {1: 640, 2: 400, 3: 320}
PANEL_PIXELS_OF_MORE_ROWS = 224
DOTS_PER_INCH = 100


@dataclasses.dataclass(frozen=True)
class Row:
    """An image and the label maps to show beside it, all of the image's size."""

    image: PIL.Image.Image
    label_maps: tuple[Int[np.ndarray, "H W"], ...]


@matplotlib.rc_context({"text.parse_math": False})  # a word with "$" is no formula
def draw(rows: Sequence[Row], columns: Sequence[str], names: Sequence[str]) -> matplotlib.figure.Figure:
    """A sheet with a row for each image and a legend of the labels that occur.

    From four rows on, the rows of up to four columns stand in two blocks side by side.

    Args:
      rows: images with their label maps.
      columns: a heading for the images and one for each label map.
      names: the name of each label.
    """
    occurring = sorted({int(label) for row in rows for labels in row.label_maps for label in np.unique(labels)})
    occurring = [label for label in occurring if label != IGNORED_LABEL]
    coloured = [label for label in occurring if names[label] != BACKGROUND]
    colours = {label: colour(index) for index, label in enumerate(coloured)}

    blocks = 2 if len(rows) >= 4 and len(columns) <= 4 else 1
    lines = -(-len(rows) // blocks)
    pixels = PANEL_PIXELS.get(len(rows), PANEL_PIXELS_OF_MORE_ROWS)
    inches = 1.05 * pixels / DOTS_PER_INCH
    tallest = max(min(1, row.image.height / row.image.width) for row in rows)
    size = (blocks * len(columns) * inches, lines * (tallest * inches + 0.1) + 1)
    figure = matplotlib.figure.Figure(size, dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(lines, blocks * len(columns), squeeze=False)
    for panel in panels.flat:
        panel.axis("off")
    for number, row in enumerate(rows):
        block, line = divmod(number, lines)
        for panel, shown in zip(panels[line, block * len(columns) :], _painted(row, colours, pixels)):
            panel.imshow(shown, interpolation="nearest")
    for panel, heading in zip(panels[0], blocks * list(columns)):
        panel.set_title(heading)
    swatches = [
        matplotlib.patches.Patch(color=_tinted(colours.get(label, MIDDLE_GREY)) / 255, label=names[label])
        for label in occurring
    ]
    figure.legend(handles=swatches, loc="outside lower center", ncols=max(1, int(size[0] // 1.5)), frameon=False)
    return figure


def _painted(row: Row, colours: Mapping[int, Colour], pixels: int) -> list[UInt8[np.ndarray, "h w 3"]]:
    """The image and its painted label maps, reduced to `pixels` along the long side if they are larger."""
    scale = min(1, pixels / max(row.image.size))
    size = tuple(max(1, round(scale * length)) for length in row.image.size)
    image = row.image.convert("RGB").resize(size, PIL.Image.Resampling.LANCZOS)
    grey = np.asarray(image.convert("L"))
    maps = (PIL.Image.fromarray(labels.astype(np.uint8)) for labels in row.label_maps)
    reduced = (np.asarray(labels.resize(size, PIL.Image.Resampling.NEAREST)) for labels in maps)
    return [np.asarray(image), *(paint(grey, labels, colours) for labels in reduced)]


def paint(
    grey: UInt8[np.ndarray, "H W"], labels: Int[np.ndarray, "H W"], colours: Mapping[int, Colour]
) -> UInt8[np.ndarray, "H W 3"]:
    """The image in pale grey, its segments tinted and parted by white lines.

    Labels without a colour keep the grey; pixels labelled 255 are white.
    """
    painted = np.repeat((FADE * 255 + (1 - FADE) * grey)[..., None], 3, axis=-1)
    for label, rgb in colours.items():
        painted[labels == label] = _tinted(rgb, painted[labels == label])
    painted[(labels == IGNORED_LABEL) | _borders(labels)] = 255
    return painted.round().astype(np.uint8)


def _tinted(
    rgb: Colour, grey: Colour | Float[np.ndarray, "N 3"] = MIDDLE_GREY
) -> Float[np.ndarray, "3"] | Float[np.ndarray, "N 3"]:
    return TINT * np.array(rgb) + (1 - TINT) * np.array(grey)


def _borders(labels: Int[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The pixels whose right or lower neighbour has another label."""
    borders = np.zeros(labels.shape, bool)
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    borders[:-1] |= labels[:-1] != labels[1:]
    return borders
