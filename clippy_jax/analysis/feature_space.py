r"""Pictures of the space in which patches, images and words meet, and one page that holds them all.

python -m clippy_jax.analysis.feature_space --checkpoint=runs/shapes --image=data/shapes/voc/JPEGImages \
    --labels="apple,zebra,grass,water" --output=features/

python -m clippy_jax.analysis.feature_space --checkpoint=clippy_5k.pt --image=cat.jpg --image=dog.jpg \
    --labels="cat,dog,sofa,lawn" --point=0.3,0.6 --resolution=2 --output=features/

Open features/index.html: it needs no network, and a click on a patch shows which patches and words are like it.
"""

import importlib.util
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
from jaxtyping import Float

from clippy_jax.analysis import feature_figures, feature_page, projections, prompted_words, segment_files
from clippy_jax.analysis.image_paths import list_images
from clippy_jax.command_line import Parser, announce
from clippy_jax.errors import InputError, exit_with_one_line
from clippy_jax.whole_files import write_text

if TYPE_CHECKING:
    from clippy_jax.inference import Model

SHOWN = 12  # images on the pictures and the page
MOST_IMAGES = 600  # on the map of pooled embeddings
IMAGES_PER_CALL = 32
MOST_PATCHES = 1500  # on the map of patches


def flags() -> Parser:
    """The program's flags."""
    parser = Parser("python -m clippy_jax.analysis.feature_space", "Pictures of what a model's space holds.", __doc__)
    parser.add_argument("--checkpoint", required=True, help="workdir, converted folder, .pt or .safetensors")
    parser.add_argument("--tokenizer", help="Sentence-T5 folder, for a checkpoint that carries none")
    parser.add_argument(
        "--image", action="append", required=True, metavar="PATH", help="an image or a folder of images; repeat it"
    )
    parser.add_argument("--labels", required=True, metavar="WORDS", help="words to place among them, with commas")
    parser.add_argument("--point", default="0.5,0.5", metavar="X,Y", help="of the first image, as shares (0.5,0.5)")
    parser.add_argument("--resolution", type=float, default=1.0, help="of the short side; 1 is that of training (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the maps (0)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the pictures; files are replaced")
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the command, embeds the images and writes the pictures and the page."""
    args = flags().parse_args(arguments)
    words = prompted_words.read(args.labels)
    point = read_point(args.point)
    paths = list_images(args.image)
    if not 0 < args.resolution <= 8:
        raise InputError(f"--resolution={args.resolution:g} must be above 0 and at most 8")
    folder = pathlib.Path(args.output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output={folder} must be a folder")
    projections.check_installed()
    # Imported here so that a wrong command is answered at once.
    from clippy_jax.analysis.embedder import Embedder
    from clippy_jax.inference import load_model
    from clippy_jax.inference.image import open_image

    announce()
    shown = [open_image(path) for path in _spread(paths, SHOWN)]
    model = load_model(args.checkpoint, args.tokenizer)
    embedder = Embedder(model, args.checkpoint)
    of_images, of_patches = (model.class_embeddings(words.prompts, for_patches=which) for which in (False, True))
    embedded = [embedder.image(image, args.resolution) for image in shown]
    grids = [of.patches for of in embedded]
    pooled = pooled_embeddings(model, _spread(paths, MOST_IMAGES))

    chosen = embedded[0].patch_at(point)
    pictures = {
        "patches_as_colours": feature_figures.colours(shown, projections.principal_colours(grids)),
        "like_the_chosen_patch": feature_figures.likeness(shown, [grid @ grids[0][chosen] for grid in grids], chosen),
    }
    patches = np.concatenate([grid.reshape(-1, grid.shape[-1]) for grid in grids])
    some = np.sort(np.random.default_rng(args.seed).permutation(len(patches))[:MOST_PATCHES])
    pictures |= maps("images_and_words", pooled, of_images, words.words, args.seed)
    pictures |= maps("patches_and_words", patches[some], of_patches, words.words, args.seed)
    for name, picture in pictures.items():
        segment_files.write_png(folder / f"{name}.png", picture)
    write_text(
        folder / "index.html", feature_page.page(args.checkpoint, shown, grids, words.words, of_patches, pictures)
    )
    if importlib.util.find_spec("umap") is None:
        print(f"left out: UMAP, which needs umap-learn: pip install {projections.UMAP}", file=sys.stderr)
    print(f"written: {folder}; open {folder / 'index.html'}")


def maps(
    name: str, vectors: Float[np.ndarray, "N D"], texts: Float[np.ndarray, "T D"], words: Sequence[str], seed: int
) -> dict[str, PIL.Image.Image]:
    """Maps of vectors among words, by the names of their files; none of fewer points than make a map."""
    if len(vectors) < projections.FEWEST:
        return {}
    best = (vectors @ texts.T).argmax(axis=1)
    joint = np.concatenate(projections.without_gap(vectors, texts))
    pictures = {}
    for method, project in (("tsne", projections.tsne), ("umap", projections.umap)):
        places = project(joint, seed)
        if places is not None:
            points, of_words = places[: len(vectors)], places[len(vectors) :]
            pictures[f"{name}_{method}"] = feature_figures.scatter(points, best, of_words, words)
    return pictures


def pooled_embeddings(model: "Model", paths: Sequence[pathlib.Path]) -> Float[np.ndarray, "N D"]:
    """The images' embeddings, each of its central square as in training."""
    calls = [paths[start : start + IMAGES_PER_CALL] for start in range(0, len(paths), IMAGES_PER_CALL)]
    return np.concatenate([np.asarray(model.encode_image(call)[1]) for call in calls])


def read_point(text: str) -> tuple[float, float]:
    """Two shares from 0 to 1, with a comma."""
    try:
        x, y = map(float, text.split(","))
        if 0 <= x <= 1 and 0 <= y <= 1:
            return x, y
    except ValueError:
        pass
    raise InputError(f"--point={text} must be two shares of the first image's width and height, such as 0.3,0.6")


def _spread(paths: Sequence[pathlib.Path], most: int) -> list[pathlib.Path]:
    """At most so many, evenly from the list."""
    count = min(most, len(paths))
    return [paths[index * len(paths) // count] for index in range(count)]


if __name__ == "__main__":
    main()
