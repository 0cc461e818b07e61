"""The files that hold the segments of an image: the overlay, the palette mask, and the figures as JSON."""

import json
import pathlib
from collections.abc import Mapping, Sequence

import PIL.Image

from clippy_jax.analysis.painting import UNCOLOURED
from clippy_jax.analysis.palette import Colour
from clippy_jax.analysis.segments import Segments
from clippy_jax.whole_files import complete_or_nothing, write_text

_KINDS = ("overlay.png", "mask.png", "segments.json")


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


def file_paths(folder: pathlib.Path, stem: str, heat_maps: Sequence[str] = ()) -> list[pathlib.Path]:
    """Where the files of an image lie in a folder: overlay, mask, figures, and heat maps by their words."""
    return [*(folder / f"{stem}_{kind}" for kind in _KINDS), *(heat_map_path(folder, stem, word) for word in heat_maps)]


def heat_map_path(folder: pathlib.Path, stem: str, word: str) -> pathlib.Path:
    """Where the heat map of a word lies, for an image."""
    return folder / f"{stem}_heatmap_{word}.png"


def write(folder: pathlib.Path, stem: str, overlay: PIL.Image.Image, mask: PIL.Image.Image, figures: dict) -> list[str]:
    """Writes the three files into a folder, replacing what is there; returns their paths, in that order.

    Raises:
      InputError: a file cannot be written.
    """
    paths = file_paths(folder, stem)
    write_png(paths[0], overlay)
    write_png(paths[1], mask)
    text = json.dumps(figures, indent=2, ensure_ascii=False)
    # The names of files need not be Unicode; what is not is escaped, as JSON has it.
    write_text(paths[2], text.encode("utf-8", "backslashreplace").decode() + "\n")
    return [str(path) for path in paths]


def write_png(path: pathlib.Path, image: PIL.Image.Image) -> None:
    """Writes an image, quickly rather than small: someone waits, and smaller files take several times as long."""
    with complete_or_nothing(path, force=True) as temporary:
        image.save(temporary, format="PNG", compress_level=1)
