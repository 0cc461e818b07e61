"""The files that a visitor can carry away: the overlay, the index mask, and the figures as JSON."""

import json
import pathlib
from collections.abc import Mapping, Sequence

import PIL.Image

from clippy_jax.demo.painting import Colour
from clippy_jax.demo.segments import Segments

UNCOLOURED = (128, 128, 128)


def index_mask(segments: Segments, colours: Mapping[int, Colour]) -> PIL.Image.Image:
    """A palette image of the labels: a pixel's value is the index of its word, shown in the word's colour."""
    mask = PIL.Image.fromarray(segments.labels)
    mask.putpalette([channel for label in range(len(segments.shares)) for channel in colours.get(label, UNCOLOURED)])
    return mask


def summary(
    segments: Segments, words: Sequence[str], colours: Mapping[int, Colour], checkpoint: str, fed: tuple[int, int]
) -> dict:
    """The figures of every word, and what they follow from, ready for JSON."""
    height, width = segments.labels.shape
    return {
        "checkpoint": checkpoint,
        "width": width,
        "height": height,
        "fed_width": fed[1],
        "fed_height": fed[0],
        "words": [
            {
                "index": index,
                "word": word,
                "colour": "#{:02x}{:02x}{:02x}".format(*colours.get(index, UNCOLOURED)),
                "pixels": int((segments.labels == index).sum()),
                "share": round(float(segments.shares[index]), 6),
                "mean_confidence": round(float(segments.confidences[index]), 6) if segments.shares[index] else None,
            }
            for index, word in enumerate(words)
        ],
    }


def write(folder: pathlib.Path, stem: str, overlay: PIL.Image.Image, mask: PIL.Image.Image, figures: dict) -> list[str]:
    """Writes the three files into a folder; returns their paths, in that order."""
    paths = [folder / f"{stem}_{kind}" for kind in ("overlay.png", "mask.png", "segments.json")]
    overlay.save(paths[0], compress_level=1)  # a visitor waits for it; smaller files take several times as long
    mask.save(paths[1])
    paths[2].write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return [str(path) for path in paths]
