"""What each tab of the page shows, from an image and words; no Gradio here."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

from clippy_jax.analysis import painting, segment_files
from clippy_jax.analysis.embedder import EmbeddedImage, Embedder
from clippy_jax.analysis.groups import group_pixels
from clippy_jax.analysis.palette import colour, word_colours
from clippy_jax.analysis.segments import Segments, name_pixels, probabilities
from clippy_jax.demo import markup

MOST_NAMES = 5  # of a chosen patch


@dataclasses.dataclass(frozen=True)
class View:
    """An image that is painted on, as the page shows it, and the figures that belong to it, as HTML."""

    image: PIL.Image.Image
    figures: str


@dataclasses.dataclass(frozen=True)
class SegmentsView(View):
    """Also the index mask, at the size of the visitor's image, and the figures ready for JSON."""

    mask: PIL.Image.Image
    summary: dict[str, Any]


def segments(
    embedder: Embedder,
    image: PIL.Image.Image,
    words: Sequence[str],
    resolution: float,
    opacity: float,
    point: tuple[float, float] | None = None,
) -> SegmentsView:
    """The segments that words name, with a frame around the patch under a point."""
    embedded = embedder.image(image, resolution)
    found = _named(embedder, embedded, words, image)
    colours = word_colours(words)
    painted = painting.overlay(image, found.labels, colours, opacity)
    grid = embedded.patches.shape[:2]
    if point is not None:
        painted = painting.mark_patch(painted, embedded.patch_at(point), grid)
    figures = markup.segments_table(found, words, colours) + markup.note(_seen_as(embedded))
    mask = segment_files.index_mask(found, colours)
    summary = segment_files.summary(found, words, colours, embedder.name, embedded.fed)
    return SegmentsView(painted, figures, mask, summary)


def patch(
    embedder: Embedder, image: PIL.Image.Image, words: Sequence[str], resolution: float, point: tuple[float, float]
) -> View:
    """What the patch under a point would be called, and a heat map of the patches that are like it."""
    embedded = embedder.image(image, resolution)
    grid = embedded.patches.shape[:2]
    chosen = embedded.patch_at(point)
    names = probabilities(embedder.words(words, for_patches=True) @ embedded.patches[chosen], embedder.logit_scale)
    similar = embedded.similarity_to_patch(chosen)
    painted = painting.mark_patch(painting.heat_map(image, similar), chosen, grid)
    note = f"Cosine with the framed patch: from {similar.min():.2f} (dark) to {similar.max():.2f} (bright)."
    return View(painted, markup.probabilities_table(words, names, MOST_NAMES) + markup.note(note))


def classification(embedder: Embedder, image: PIL.Image.Image, words: Sequence[str], resolution: float) -> str:
    """The probability of each word for the image as a whole, as HTML."""
    embedded = embedder.image(image, resolution)
    likely = probabilities(embedder.words(words) @ embedded.pooled, embedder.logit_scale)
    note = f"The image as one embedding ({embedder.model.config.pooling} pooling). {_seen_as(embedded)}"
    return markup.probabilities_table(words, likely) + markup.note(note)


def groups(
    embedder: Embedder, image: PIL.Image.Image, words: Sequence[str], resolution: float, opacity: float, count: int
) -> View:
    """Groups of patches, made without words; if there are words, each group has the one that names most of it."""
    embedded = embedder.image(image, resolution)
    found = group_pixels(embedded.patches, count, image.height, image.width)
    colours = {group: colour(group) for group in range(len(found.shares))}
    named = None
    if words:
        labels = _named(embedder, embedded, words, image).labels
        named = [words[np.bincount(labels[found.labels == group]).argmax()] for group in colours]
    note = (
        "Each patch goes to the principal component of the image's patches that it is most like; no word plays a part."
    )
    painted = painting.overlay(image, found.labels, colours, opacity)
    return View(painted, markup.groups_table(found, colours, named) + markup.note(note))


def _named(embedder: Embedder, embedded: EmbeddedImage, words: Sequence[str], image: PIL.Image.Image) -> Segments:
    similarities = embedded.patches @ embedder.words(words, for_patches=True).T
    return name_pixels(similarities, embedder.logit_scale, image.height, image.width)


def _seen_as(embedded: EmbeddedImage) -> str:
    (rows, columns), (height, width) = embedded.patches.shape[:2], embedded.fed
    return f"Seen by the model at {width} x {height} pixels, in {columns} x {rows} patches."
