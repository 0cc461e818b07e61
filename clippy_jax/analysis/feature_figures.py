"""Pictures of features: patches as colours, patches that are alike, and maps of vectors among words."""

from collections.abc import Sequence

import matplotlib.backends.backend_agg
import matplotlib.figure
import matplotlib.patheffects
import numpy as np
import PIL.Image
from jaxtyping import Float, Int

from clippy_jax.analysis import painting
from clippy_jax.analysis.palette import word_colours

TILE_PIXELS, TILE_GAP, MOST_COLUMNS = 224, 8, 6
MAP_INCHES, MAP_DOTS = 8.0, 110
GREY = (0.6, 0.6, 0.6)


def colours(images: Sequence[PIL.Image.Image], grids: Sequence[Float[np.ndarray, "h w 3"]]) -> PIL.Image.Image:
    """Every image above its patches in the colours given (0 to 1)."""
    squares = [PIL.Image.fromarray(np.round(255 * grid).astype(np.uint8)) for grid in grids]
    return _sheet([(image, square) for image, square in zip(images, squares)])


def likeness(
    images: Sequence[PIL.Image.Image], cosines: Sequence[Float[np.ndarray, "h w"]], chosen: tuple[int, int]
) -> PIL.Image.Image:
    """Every image above how like its patches are to one of the first image, which has a frame; one scale for all."""
    lowest, highest = min(of.min() for of in cosines), max(of.max() for of in cosines)
    heats = [painting.heat_map(image, of, (lowest, highest)) for image, of in zip(images, cosines)]
    first = painting.mark_patch(painting.shown(images[0]), chosen, cosines[0].shape)
    return _sheet(list(zip([first, *images[1:]], heats)))


@matplotlib.rc_context({"text.parse_math": False})  # a word with "$" is no formula
def scatter(
    points: Float[np.ndarray, "N 2"],
    best: Int[np.ndarray, "N"],
    of_words: Float[np.ndarray, "T 2"],
    words: Sequence[str],
) -> PIL.Image.Image:
    """Points on a map in the colour of the word that names each best, and the words where they lie themselves."""
    figure = matplotlib.figure.Figure((MAP_INCHES, MAP_INCHES), dpi=MAP_DOTS, layout="constrained")
    axes = figure.subplots()
    table = {word: np.array(rgb) / 255 for word, rgb in word_colours(words).items()}
    shades = np.array([table.get(word, GREY) for word in range(len(words))])
    axes.scatter(*points.T, c=shades[best], s=max(6, min(40, 20_000 / len(points))), linewidths=0, alpha=0.75)
    axes.scatter(*of_words.T, c=shades, marker="*", s=260, edgecolors="black", zorder=3)
    outline = [matplotlib.patheffects.withStroke(linewidth=3, foreground="white")]
    for place, word in zip(of_words, words):
        axes.annotate(
            word, place, (7, 5), textcoords="offset points", fontsize=12, weight="bold", path_effects=outline, zorder=4
        )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("lightgrey")
    canvas = matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
    canvas.draw()
    return PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def tile(image: PIL.Image.Image, size: tuple[int, int]) -> PIL.Image.Image:
    """An image at a size; what is enlarged keeps its pixels."""
    enlarged = image.width < size[0]
    return image.resize(size, PIL.Image.Resampling.NEAREST if enlarged else PIL.Image.Resampling.LANCZOS)


def _sheet(pairs: Sequence[tuple[PIL.Image.Image, PIL.Image.Image]]) -> PIL.Image.Image:
    """Pairs, one above the other, in lines of at most `MOST_COLUMNS`."""
    columns = min(MOST_COLUMNS, len(pairs))
    heights = [round(TILE_PIXELS * min(2.0, image.height / image.width)) for image, _ in pairs]
    lines = [range(start, min(start + columns, len(pairs))) for start in range(0, len(pairs), columns)]
    tall = [2 * max(heights[index] for index in line) + 3 * TILE_GAP for line in lines]
    sheet = PIL.Image.new("RGB", (columns * (TILE_PIXELS + TILE_GAP) + TILE_GAP, sum(tall)), "white")
    for number, line in enumerate(lines):
        for column, index in enumerate(line):
            left, top = TILE_GAP + column * (TILE_PIXELS + TILE_GAP), TILE_GAP + sum(tall[:number])
            for row, image in enumerate(pairs[index]):
                at = top + row * (heights[index] + TILE_GAP)
                sheet.paste(tile(image, (TILE_PIXELS, heights[index])), (left, at))
    return sheet
