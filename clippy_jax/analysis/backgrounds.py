r"""How much a bird is still a bird on another background: similarity to its name as the background changes.

python -m clippy_jax.analysis.backgrounds --checkpoint=runs/shapes --checkpoint=runs/shapes-cls --shapes \
    --output=backgrounds/

python -m clippy_jax.analysis.backgrounds --checkpoint=clippy_5k.pt \
    --waterbirds=/data/waterbird_complete95_forest2water2 --output=backgrounds/

Writes backgrounds.png, backgrounds.md (the table, and how to read it) and backgrounds.json. With --shapes the very same
objects are rendered on every background; a Waterbirds tree shows different birds on each.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Int, UInt8

from clippy_jax.analysis import background_figure
from clippy_jax.analysis.background_figure import Effect, Similarity
from clippy_jax.command_line import Parser, announce
from clippy_jax.datasets import image_file, waterbirds_tree
from clippy_jax.datasets.vocabulary import fill_in
from clippy_jax.errors import InputError, exit_with_one_line
from clippy_jax.inference import Model
from clippy_jax.input_pipeline import evaluation_image
from clippy_jax.shapes.captions import TEMPLATES
from clippy_jax.shapes.rendering import render
from clippy_jax.shapes.scenes import CLASSES, PLACE_NAMES, sample_scene, scene_rng
from clippy_jax.shapes.settings import Settings
from clippy_jax.whole_files import complete_or_nothing, write_text

MOST_SIMILAR = 0.1  # share of the patches that stand for an object whose place is not known
SEED = 1  # of the scenes; 0 is the data set's own
COVERED = 0.5  # share of a patch that an object covers at least, where it is


def flags() -> Parser:
    """The program's flags."""
    parser = Parser("python -m clippy_jax.analysis.backgrounds", "What backgrounds do to an object's name.", __doc__)
    parser.add_argument("--checkpoint", action="append", required=True, help="of a model; repeat it to compare")
    parser.add_argument("--tokenizer", help="Sentence-T5 folder, for checkpoints that carry none")
    parser.add_argument("--shapes", action="store_true", help="render the objects of the embedded data set")
    parser.add_argument("--scenes", type=int, default=8, help="with --shapes: looks of each object (8)")
    parser.add_argument("--waterbirds", metavar="DIR", help="Waterbirds tree with metadata.csv")
    parser.add_argument("--split", default="test", help="with --waterbirds: train, val or test (test)")
    parser.add_argument("--batch_size", type=int, default=64, help="images a step over all devices (64)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write to; files are replaced")
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the command, measures every model, prints the table and writes the files."""
    args = flags().parse_args(arguments)
    if args.shapes == bool(args.waterbirds):
        raise InputError("add either --shapes or --waterbirds=DIR")
    if not 1 <= args.scenes <= 1000 or args.batch_size < 1:
        raise InputError("--scenes must be from 1 to 1000, and --batch_size at least 1")
    if len(set(args.checkpoint)) < len(args.checkpoint):
        raise InputError("--checkpoint names one model more than once")
    folder = pathlib.Path(args.output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output={folder} must be a folder")
    tree = waterbirds_tree.read(args.waterbirds, args.split) if args.waterbirds else None
    # Imported here so that a wrong command is answered at once.
    from clippy_jax.inference import load_model

    announce()
    effects = {}
    for checkpoint in args.checkpoint:
        model = load_model(checkpoint, args.tokenizer)
        pictures = of_waterbirds(tree, model.image_size) if tree else of_shapes(args.scenes, model.image_size)
        effects[checkpoint] = measure(model, pictures, args.batch_size)
    objects = "best patches" if tree else "object patches"
    report = background_figure.report(effects, objects)
    print(report)
    with complete_or_nothing(folder / "backgrounds.png", force=True) as temporary:
        background_figure.draw(effects, objects).savefig(temporary, format="png", dpi=130)
    write_text(folder / "backgrounds.md", report + "\n")
    figures = {checkpoint: effect.as_json() for checkpoint, effect in effects.items()}
    write_text(folder / "backgrounds.json", json.dumps(figures, indent=2) + "\n")
    print(f"written: {folder}")


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Objects on backgrounds.

    Attributes:
      read: gives, by its index, an image as fed and the pixels that its object covers, None where these are not known.
      objects: the object of each image, by index.
      places: the background of each.
      names: of the objects.
      place_names: of the backgrounds.
      prompts: of each object.
    """

    read: Callable[[int], tuple[UInt8[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"] | None]]
    objects: Int[np.ndarray, "I"]
    places: Int[np.ndarray, "I"]
    names: Sequence[str]
    place_names: Sequence[str]
    prompts: Sequence[Sequence[str]]


def of_shapes(scenes: int, image_size: int) -> Pictures:
    """Every object of the embedded data set on every place: its look, its place in the image and its light stay."""
    looks, places = np.divmod(np.arange(len(CLASSES) * scenes * len(PLACE_NAMES)), len(PLACE_NAMES))
    objects = looks // scenes

    def read(index: int) -> tuple[UInt8[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"]]:
        rng = scene_rng(SEED, "voc_val", looks[index])
        scene = sample_scene(rng, CLASSES[objects[index]], PLACE_NAMES[0])
        on_place = dataclasses.replace(scene, place=PLACE_NAMES[places[index]])
        place_rng = np.random.default_rng([SEED, looks[index], places[index]])
        picture = render(on_place, Settings().image_size, rng, place_rng)
        image = evaluation_image.resized(PIL.Image.fromarray(picture.image), (image_size, image_size))
        return image, picture.mask == 1 + objects[index]

    return Pictures(read, objects, places, CLASSES, PLACE_NAMES, fill_in(TEMPLATES, CLASSES))


def of_waterbirds(tree: waterbirds_tree.WaterbirdsTree, image_size: int) -> Pictures:
    """The birds of a tree on its two places.

    Raises:
      InputError: an image cannot be read.
    """
    words = tree.vocabulary

    def read(index: int) -> tuple[UInt8[np.ndarray, "H W 3"], None]:
        try:
            return evaluation_image.centre_crop(image_file.open_image(tree.paths[index]), image_size), None
        except OSError:
            raise InputError(f"{tree.paths[index]} cannot be read as an image") from None

    prompts = fill_in(words.templates, words.birds)
    return Pictures(read, tree.birds, tree.places, words.birds, words.places, prompts)


def measure(model: Model, pictures: Pictures, batch_size: int) -> Effect:
    """The similarities of all images, by object and place."""
    names, names_of_patches = (model.class_embeddings(pictures.prompts, for_patches=which) for which in (False, True))
    of_patches, of_pooled = [], []
    count = len(pictures.objects)
    for start in range(0, count, batch_size):
        numbers = range(start, min(start + batch_size, count))
        images, covers = zip(*map(pictures.read, numbers))
        padding = ((0, min(batch_size, count) - len(images)), (0, 0), (0, 0), (0, 0))  # one shape for all calls
        encoded = model.encode_image(np.pad(np.stack(images), padding))
        patches, pooled = (np.asarray(of)[: len(images)] for of in encoded)
        of_pooled.append(pooled @ names.T)
        for number, cover, similarities in zip(numbers, covers, patches @ names_of_patches.T):
            if cover is None:
                inside = most_similar(similarities[..., pictures.objects[number]])
            else:
                inside = covered(cover, similarities.shape[:2])
            of_patches.append(similarities[inside].mean(axis=0))
    return Effect(
        tuple(pictures.names),
        tuple(pictures.place_names),
        Similarity.of(np.stack(of_patches), pictures.objects, pictures.places, len(pictures.place_names)),
        Similarity.of(np.concatenate(of_pooled), pictures.objects, pictures.places, len(pictures.place_names)),
        count,
    )


def covered(cover: Bool[np.ndarray, "H W"], grid: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The patches of which the object covers at least `COVERED`, or the one that it covers most."""
    shares = PIL.Image.fromarray(cover.astype(np.float32)).resize(grid[::-1], PIL.Image.Resampling.BOX)
    shares = np.asarray(shares)
    return shares >= min(COVERED, shares.max())


def most_similar(similarities: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The `MOST_SIMILAR` share of the patches that are most similar, at least one."""
    count = max(1, round(MOST_SIMILAR * similarities.size))
    return similarities >= np.sort(similarities.ravel())[-count]


if __name__ == "__main__":
    main()
