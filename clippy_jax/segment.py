r"""Images and words to coloured segments.

python -m clippy_jax.segment --checkpoint=clippy_5k.pt \
    --image=photo.jpg --labels="cat,dog,background" --output=overlay.png
python -m clippy_jax.segment --checkpoint=runs/b16 --voc=/data/VOC2012 --count=6 --output=segments.png

The second form shows scenes of a PASCAL-VOC-shaped tree beside their ground truth.
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
import PIL.Image

from clippy_jax.analysis import segment_sheet
from clippy_jax.command_line import Parser
from clippy_jax.config import check_image_size
from clippy_jax.datasets import image_file, label_layouts, segmentation_tree
from clippy_jax.datasets.segmentation_tree import SegmentationTree
from clippy_jax.datasets.vocabulary import IGNORED_LABEL, photo_prompt
from clippy_jax.errors import InputError, exit_with_one_line
from clippy_jax.whole_files import complete_or_nothing


def flags() -> Parser:
    """The program's flags."""
    parser = Parser(prog="python -m clippy_jax.segment", description="Colours images by the words they show.")
    parser.add_argument("--checkpoint", required=True, help="workdir, converted folder, .pt or .safetensors")
    parser.add_argument("--tokenizer", help="Sentence-T5 folder, for a checkpoint that carries none")
    parser.add_argument("--image", action="append", metavar="FILE", help="an image; repeat it for more rows")
    parser.add_argument("--labels", help='words to tell apart, with commas: "cat,dog,background"')
    parser.add_argument("--voc", metavar="DIR", help="PASCAL-VOC-shaped tree, instead of --image and --labels")
    parser.add_argument("--split", default="val", help="which list of the tree")
    parser.add_argument("--count", type=int, default=6, help="scenes of the tree, taken evenly from the list")
    parser.add_argument("--image_size", type=int, help="pixels of the short side as fed; the training size by default")
    parser.add_argument("--output", required=True, metavar="FILE", help="image to write, replaced if it exists")
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the command, names every pixel and writes the sheet."""
    args = flags().parse_args(arguments)
    output = pathlib.Path(args.output)
    _check_output(output)
    if bool(args.image) == bool(args.voc):
        raise InputError("add either --image=FILE (with --labels) or --voc=DIR")
    if args.voc:
        tree = segmentation_tree.read(args.voc, label_layouts.VOC, args.split)
        names, prompts = tree.vocabulary.classes, tree.vocabulary.prompts
        images, truths = scenes(tree, args.count)
    else:
        names = _words(args.labels)
        prompts = [photo_prompt(name) for name in names]
        from clippy_jax.inference.image import open_image  # here and below: a wrong command is answered at once

        images, truths = [open_image(path) for path in args.image], None
    from clippy_jax.inference import load_model

    model = load_model(args.checkpoint, args.tokenizer)
    image_size = model.image_size if args.image_size is None else args.image_size
    check_image_size(image_size, model.config.image, "--image_size")
    classes = model.class_embeddings([[prompt] for prompt in prompts], for_patches=True)
    predictions = [model.name_pixels(image, classes, len(names), image_size) for image in images]
    columns = ("image", "segments") if truths is None else ("image", "ground truth", "prediction")
    label_maps = zip(predictions) if truths is None else zip(truths, predictions)
    rows = [segment_sheet.Row(image, maps) for image, maps in zip(images, label_maps)]
    with complete_or_nothing(str(output), force=True) as temporary:
        segment_sheet.draw(rows, columns, names).savefig(temporary, format=output.suffix[1:].lower())
    print(f"written: {output}")


def _check_output(output: pathlib.Path) -> None:
    if output.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise InputError(f"--output={output} must end in .png, .jpg or .webp")
    if not os.access(output.parent, os.W_OK):
        raise InputError(f"--output={output}: {output.parent} is not a folder that can be written to")


def _words(labels: str | None) -> list[str]:
    words = [word.strip() for word in (labels or "").split(",") if word.strip()]
    if not 2 <= len(words) <= IGNORED_LABEL:
        raise InputError(
            f'--labels needs 2 to {IGNORED_LABEL} words to tell apart, for example --labels="cat,dog,background"'
        )
    repeated = sorted({word for word in words if words.count(word) > 1})
    if repeated:
        raise InputError(f"--labels names {repeated[0]!r} more than once")
    return words


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
