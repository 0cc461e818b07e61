"""Images with their captions, for retrieval: a table, tars, a Karpathy split, Flickr30k as it unpacks, TFDS."""

import dataclasses
import io
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable

import numpy as np
import PIL.Image
from jaxtyping import Int32

from clippy_jax.datasets import flickr, image_file, patterns, tables
from clippy_jax.datasets.remote_files import is_remote
from clippy_jax.datasets.sample import BadCounts, BadSample, Source, StorageAway
from clippy_jax.datasets.tars.shards import ShardSource
from clippy_jax.datasets.tfds.pairs import TFDSSource
from clippy_jax.datasets.tfds.split import PREFIX as TFDS_PREFIX
from clippy_jax.errors import InputError, reading

CAPTIONS_PER_IMAGE = 5  # the first ones count, as is usual; some images of COCO have six or seven


@dataclasses.dataclass(frozen=True)
class RetrievalPairs:
    """Images and the captions of each."""

    source: str
    split: str
    images: tuple[pathlib.Path, ...]  # of a tar, names that say which sample
    open_image: Callable[[int], PIL.Image.Image]  # raises OSError where it cannot be read
    captions: tuple[str, ...]
    image_of_caption: Int32[np.ndarray, "T"]  # ascending index into the images


def read(source: str, split: str = "test") -> RetrievalPairs:
    """Lists images and captions; decodes none.

    Args:
      source: a table as training reads it, rows with the same path being captions of one image; a tar
        pattern such as `/data/{00000..00004}.tar`, where each line of a `txt` is a caption; a Karpathy JSON
        (`dataset_coco.json`), the images beside it at `filepath/filename`; Flickr30k's folder, `.token` or
        `results.csv`; or `tfds:NAME[:split]`, such as `tfds:coco_captions`.
      split: of a Karpathy JSON, and of a TFDS name without one; the others are taken whole.

    Raises:
      InputError: the source is missing, of another kind or damaged, or holds no captioned image.
    """
    try:
        if source.startswith(TFDS_PREFIX):
            return _tfds(source, split)
        path = pathlib.Path(os.path.expanduser(source))
        path = flickr.caption_file(path) or path
        if path.suffix.lower() == ".json" and (of_split := _karpathy(path, split)):
            return of_split
        if flickr.is_caption_file(path):
            return _of_files(str(path), "all rows", flickr.read_captions(path))
        files = patterns.expand_files(source)
        if all(file.suffix.lower() == ".tar" for file in files):
            return _tars(source, files)
        if all(file.suffix.lower() in tables.ENDINGS for file in files) and not is_remote(source):
            return _table(source, files)
    except InputError as error:  # the readers name the configuration field of the training input, which is not meant
        raise InputError(str(error).removeprefix(f"{patterns.KEY}: ")) from None
    raise InputError(
        f"{source} is no retrieval set; name a .csv or .tsv table, .tar shards, a Karpathy split's .json or tfds:NAME"
    )


def _table(source: str, files: list[pathlib.Path]) -> RetrievalPairs:
    captions_of: dict[pathlib.Path, list[str]] = {}
    left_out = BadCounts()
    for file in files:
        table = tables.TableSource(file)
        left_out.note_all(table.left_out)
        for index, caption in enumerate(table.captions):
            captions = [caption, *table.further.get(index, ())]
            captions_of.setdefault(pathlib.Path(table.path(index)), []).extend(captions)
    return _of_files(source, _beside("all rows", left_out), captions_of)


def _beside(split: str, left_out: BadCounts) -> str:
    """A split as it stands beside the figures: with what could not be used of it."""
    return f"{split} (left out: {left_out})" if left_out else split


def _karpathy(file: pathlib.Path, split: str) -> RetrievalPairs | None:
    """The pairs of a split; None where the JSON is a list or several rows, as a table of images and captions is."""
    with reading(file, wrong="cannot be read as JSON"):
        text = file.read_text("utf-8-sig").strip()
        contents, end = json.JSONDecoder().raw_decode(text)
    if isinstance(contents, list) or end < len(text):
        return None
    try:
        entries = contents["images"]
        splits = sorted({entry["split"] for entry in entries})
        captions_of = {
            os.path.join(entry.get("filepath", ""), entry["filename"]): [
                sentence["raw"].strip() for sentence in entry["sentences"] if sentence["raw"].strip()
            ]
            for entry in entries
            if entry["split"] == split
        }
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            f'{file} is no Karpathy split: "images" must list "filename", "split" and "sentences", each with "raw"'
        ) from None
    if split not in splits:
        raise InputError(f"{file} has no split {split!r}; it has {', '.join(map(str, splits)) or 'none'}")
    folder = flickr.image_folder(file, list(captions_of)[:1])
    return _of_files(str(file), split, {folder / name: captions for name, captions in captions_of.items()})


def _of_files(source: str, split: str, captions_of: dict[pathlib.Path, list[str]]) -> RetrievalPairs:
    captioned = {path: captions for path, captions in captions_of.items() if captions}
    paths = tuple(captioned)
    return _pairs(source, split, paths, lambda index: image_file.open_image(paths[index]), captioned.values())


def _tars(source: str, files: list[patterns.File]) -> RetrievalPairs:
    with tempfile.TemporaryDirectory() as folder:  # data to evaluate on may lie where nothing can be written
        shards = ShardSource(files, folder)
    texts = shards.without_images()
    return _of_samples(source, "all samples", shards, lambda index: texts[index].caption.split("\n"))


def _tfds(source: str, split: str) -> RetrievalPairs:
    pairs = TFDSSource(source, split)
    return _of_samples(source, pairs.split, pairs, pairs.captions)


def _of_samples(source: str, split: str, samples: Source, read_captions: Callable[[int], list[str]]) -> RetrievalPairs:
    """What is read by number: images of `samples`, and all captions of each, of which the samples have the first."""
    captions_of, left_out = {}, samples.left_out
    for index in range(len(samples)):
        try:
            captions = [caption.strip() for caption in read_captions(index) if caption.strip()]
        except BadSample as bad:
            left_out.note(bad.cause, f"{source}, sample {index}")
        except StorageAway as error:
            raise InputError(f"{source}: sample {index} cannot be read ({error}); its captions are needed") from error
        else:
            if captions:
                captions_of[index] = captions
            else:
                left_out.note("captionless", f"{source}, sample {index}")
    kept = tuple(captions_of)
    names = tuple(pathlib.Path(f"{source}, sample {index}") for index in kept)

    def open_image(index: int) -> PIL.Image.Image:
        try:
            return image_file.open_image(io.BytesIO(samples[kept[index]].image))
        except (BadSample, StorageAway) as error:
            raise OSError(f"{names[index]}: {error}") from error

    return _pairs(source, _beside(split, left_out), names, open_image, captions_of.values())


def _pairs(
    source: str,
    split: str,
    images: tuple[pathlib.Path, ...],
    open_image: Callable[[int], PIL.Image.Image],
    captions_of: Iterable[list[str]],
) -> RetrievalPairs:
    kept = [captions[:CAPTIONS_PER_IMAGE] for captions in captions_of]
    if not images:
        raise InputError(f"{source} holds no image with a caption")
    image_of_caption = np.repeat(np.arange(len(kept), dtype=np.int32), [len(captions) for captions in kept])
    return RetrievalPairs(
        source, split, images, open_image, tuple(c for captions in kept for c in captions), image_of_caption
    )
