r"""Images and words to coloured segments: a picture of all images, or files for each of them.

python -m clippy_jax.segment --checkpoint=clippy_5k.pt \
    --image=photo.jpg --labels="cat,dog,background" --output=overlay.png

python -m clippy_jax.segment --checkpoint=runs/b16 --image=photos/ --labels="cat,dog" \
    --background="sky,wall,floor" --resolution=2 --heatmaps --output=segments/

A folder gets three files for every image: NAME_overlay.png with a legend, NAME_mask.png (a pixel's value is the place
of its word, from 0) and NAME_segments.json (share and mean confidence of each word).
"""

import argparse
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import tqdm
from jaxtyping import Int

from clippy_jax.analysis import painting, prompted_words, segment_files, segment_sheet
from clippy_jax.analysis.image_paths import file_stems, list_images
from clippy_jax.analysis.palette import word_colours
from clippy_jax.command_line import Parser, announce
from clippy_jax.datasets import image_file, label_layouts, segmentation_tree
from clippy_jax.datasets.segmentation_tree import SegmentationTree
from clippy_jax.errors import InputError, exit_with_one_line
from clippy_jax.whole_files import complete_or_nothing

if TYPE_CHECKING:
    from clippy_jax.analysis.segmenter import Segmenter

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MOST_ROWS = 64  # of a picture of all images
MOST_GROUPS = 64
HIGHEST_RESOLUTION = 32.0
OPACITY = 0.6
SCENES = 6


def flags() -> Parser:
    """The program's flags."""
    parser = Parser("python -m clippy_jax.segment", "Colours the pixels of images by the words they show.", __doc__)
    parser.add_argument("--checkpoint", required=True, help="workdir, converted folder, .pt or .safetensors")
    parser.add_argument("--tokenizer", help="Sentence-T5 folder, for a checkpoint that carries none")
    parser.add_argument("--image", action="append", metavar="PATH", help="an image or a folder of images; repeat it")
    parser.add_argument("--labels", metavar="WORDS", help='words to tell apart, with commas: "cat,dog,background"')
    parser.add_argument("--background", metavar="WORDS", help="more words, whose pixels count as background")
    parser.add_argument(
        "--templates", metavar="FILE", help="prompts, one a line, {c} stands for the word; or: imagenet, for its 80"
    )
    parser.add_argument("--groups", type=int, metavar="N", help="instead of words: at most N groups of like patches")
    parser.add_argument("--resolution", type=float, default=1.0, help="of the short side; 1 is that of training (1)")
    parser.add_argument(
        "--windows", action="store_true", help="feed windows of the training size; large images always come so"
    )
    parser.add_argument("--heatmaps", action="store_true", help="also NAME_heatmap_WORD.png; into a folder only")
    parser.add_argument("--voc", metavar="DIR", help="instead of --image: scenes of this tree beside their truth")
    parser.add_argument("--split", default="val", help="which list of the tree (val)")
    parser.add_argument("--count", type=int, default=SCENES, help=f"scenes, evenly from the list ({SCENES})")
    parser.add_argument(
        "--output", required=True, metavar="PATH", help="a picture (.png, .jpg, .webp) or a folder; files are replaced"
    )
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the command, names every pixel and writes the picture or the files."""
    args = flags().parse_args(arguments)
    output = pathlib.Path(args.output)
    to_folder = is_folder(args.output)
    _check_flags(args, to_folder)
    paths, images, truths = [], [], None
    if args.voc:
        tree = segmentation_tree.read(args.voc, label_layouts.VOC, args.split)
        words = prompted_words.of_vocabulary(tree.vocabulary)
        images, truths = scenes(tree, args.count)
    else:
        words = None
        if not args.groups:
            words = prompted_words.read(args.labels, args.background, args.templates)
        paths = list_images(args.image)
        stems = file_stems(paths) if to_folder else []
        heat_maps = _file_names(words.names) if args.heatmaps else []
        written = [output, *(path for stem in stems for path in segment_files.file_paths(output, stem, heat_maps))]
        given = {os.path.realpath(path): path for path in (*args.image, *paths)}
        if lost := [given[place] for place in map(os.path.realpath, written) if place in given]:
            raise InputError(f"--output={output}: {lost[0]} is among the images, which would be lost; choose another")
        images = [] if to_folder else open_few(paths)
    # Imported here so that a wrong command is answered at once.
    from clippy_jax.analysis.embedder import Embedder
    from clippy_jax.analysis.segmenter import Segmenter
    from clippy_jax.inference import load_model

    announce()
    embedder = Embedder(load_model(args.checkpoint, args.tokenizer), args.checkpoint)
    segmenter = Segmenter(embedder, words, args.groups, args.resolution, args.windows)
    if to_folder:
        write_files(segmenter, dict(zip(stems, paths)), output, args.heatmaps)
    else:
        write_sheet(segmenter, images, truths, output)


def write_sheet(
    segmenter: "Segmenter",
    images: Sequence[PIL.Image.Image],
    truths: Sequence[Int[np.ndarray, "H W"]] | None,
    output: pathlib.Path,
) -> None:
    """A picture with a row for each image and a legend."""
    found = [segmenter(image) for image in images]
    words = max((of.words for of in found), key=len)
    if truths is None:
        columns, label_maps = ("image", "segments"), [(of.segments.labels,) for of in found]
    else:
        columns = ("image", "ground truth", "prediction")
        label_maps = [(truth, of.segments.labels) for truth, of in zip(truths, found)]
    rows = [segment_sheet.Row(image, maps) for image, maps in zip(images, label_maps)]
    with complete_or_nothing(str(output), force=True) as temporary:
        segment_sheet.draw(rows, columns, words).savefig(temporary, format=output.suffix[1:].lower())
    print(f"written: {output}")


def write_files(segmenter: "Segmenter", paths: dict[str, pathlib.Path], folder: pathlib.Path, heatmaps: bool) -> None:
    """The files of each image, by the beginning of their names; what cannot be read is said and left out.

    Raises:
      InputError: no image can be read, or a file cannot be written.
    """
    from clippy_jax.inference.image import open_image

    heat_map_names = _file_names(segmenter.words.names) if heatmaps else []
    unreadable = []
    for stem, path in tqdm.tqdm(paths.items(), unit="image", disable=not sys.stderr.isatty()):
        try:
            image = open_image(path)
        except InputError as error:
            unreadable.append(str(error))
            continue
        found = segmenter(image)
        colours = word_colours(found.words)
        figures = segment_files.summary(found.segments, found.words, colours, segmenter.name, found.fed)
        overlay = painting.overlay(image, found.segments.labels, colours, OPACITY)
        shares = found.segments.shares
        legend = [
            (f"{found.words[word]}  {100 * shares[word]:.1f} %", colours.get(word, painting.UNCOLOURED))
            for word in np.argsort(-shares, kind="stable")
            if shares[word] > 0
        ]
        mask = segment_files.index_mask(found.segments, colours)
        segment_files.write(folder, stem, painting.with_legend(overlay, legend), mask, {"image": str(path)} | figures)
        for index, name in enumerate(heat_map_names):
            heat = painting.heat_map_with_legend(image, found.similarities[..., index], segmenter.words.names[index])
            segment_files.write_png(segment_files.heat_map_path(folder, stem, name), heat)
    for message in unreadable:
        print(f"left out: {message}", file=sys.stderr)
    if len(unreadable) == len(paths):
        raise InputError("none of the images can be read")
    print(f"written: {folder}, the files of {len(paths) - len(unreadable)} images")


def _file_names(words: Sequence[str]) -> list[str]:
    """Words as parts of file names: letters, digits and "_"; numbered if two are the same, also where case is none."""
    names = [re.sub(r"[^\w-]+", "_", word) for word in words]
    if len({name.casefold() for name in names}) == len(names):
        return names
    return [f"{name}_{place}" for place, name in enumerate(names)]


def open_few(paths: Sequence[pathlib.Path]) -> list[PIL.Image.Image]:
    """The images of a picture."""
    from clippy_jax.inference.image import open_image

    if len(paths) > MOST_ROWS:
        raise InputError(f"{len(paths)} images are too many for one picture; give a folder as --output")
    return [open_image(path) for path in paths]


def is_folder(output: str) -> bool:
    """Whether --output is a folder to write into: one that is there, or a name without the ending of a file.

    Raises:
      InputError: it has the ending of another file, or cannot be written to.
    """
    path = pathlib.Path(output)
    folder = path.is_dir() or not path.suffix or output.endswith(os.sep)
    if not folder and path.suffix.lower() not in PICTURES:
        raise InputError(f"--output={output} must end in .png, .jpg or .webp, or be a folder")
    place = path if path.is_dir() else path.parent
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise InputError(f"--output={output}: {place} is not a folder that can be written to")
    return folder


def _check_flags(args: argparse.Namespace, to_folder: bool) -> None:
    """Raises `InputError` for flags that contradict each other, or that nothing would read."""
    by_words = args.labels is not None or args.background is not None or args.templates is not None
    if bool(args.image) == bool(args.voc):
        raise InputError("add either --image=PATH (with --labels or --groups) or --voc=DIR")
    if args.voc and (by_words or args.groups is not None or to_folder):
        raise InputError("--voc has words of its own and makes one picture: leave out --labels, --groups and the like")
    if args.groups is not None and (by_words or args.heatmaps):
        raise InputError("--groups is without words: leave out --labels, --background, --templates and --heatmaps")
    if args.groups is not None and not 1 <= args.groups <= MOST_GROUPS:
        raise InputError(f"--groups={args.groups} must be from 1 to {MOST_GROUPS}")
    if args.heatmaps and not to_folder:
        raise InputError("--heatmaps makes many files: give a folder as --output")
    if not 0 < args.resolution <= HIGHEST_RESOLUTION:
        raise InputError(f"--resolution={args.resolution:g} must be above 0 and at most {HIGHEST_RESOLUTION:g}")


def scenes(tree: SegmentationTree, count: int) -> tuple[list[PIL.Image.Image], list[np.ndarray]]:
    """Images and ground truth of `count` scenes, evenly spaced over the split."""
    if not 1 <= count <= len(tree.images):
        raise InputError(f"--count={count}: {tree.split} of {tree.folder} has {len(tree.images)} scenes")
    chosen = np.arange(count) * len(tree.images) // count
    images, truths = [], []
    for index in chosen:
        tree.size(index)
        try:
            images.append(image_file.open_image(tree.images[index]).convert("RGB"))
        except OSError:
            raise InputError(f"{tree.images[index]} cannot be read as an image") from None
        truths.append(tree.labels(index))
    return images, truths


if __name__ == "__main__":
    main()
