"""One HTML page with the pictures of a feature space, and images whose patches can be clicked; it needs no network."""

import base64
import html
import io
import json
import pathlib
import string
from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image
from jaxtyping import Float

PAGE = pathlib.Path(__file__).with_name("feature_page.html")
IMAGE_PIXELS = 320  # along the long side, on the page
MOST_FEATURES = 64  # that the page computes with
STEPS = 127  # a feature is a whole number of up to so many steps

# What each picture shows, by the beginning of its name.
HEADINGS = {
    "patches_as_colours": (
        "Patches as colours",
        "The first three principal components of all patches, as red, green and blue. They are computed over all "
        "images together, so the same colour means the same kind of patch in every image. Objects that the model "
        "tells apart differ in colour from what is behind them and from each other; an even grey or a fine mixture of "
        "colours within one object means that patches know little of what they belong to.",
    ),
    "like_the_chosen_patch": (
        "Like the chosen patch",
        "The cosine of every patch with the framed one of the first image; dark is unlike, bright is like, on one "
        "scale for all images. A good patch embedding lights up its own object, the same kind of object elsewhere, "
        "and little else.",
    ),
    "images_and_words": (
        "Images among words",
        "Each dot is an image by its pooled embedding, in the colour of the word that names it best; stars are the "
        "words. Images and texts lie in two regions of the space, so each is taken from the mean of its kind first. "
        "Near points are alike; distances between far groups, and the size of a group, mean nothing.",
    ),
    "patches_and_words": (
        "Patches among words",
        "The same for single patches of the images above. Where patches of one colour form one group with their word "
        "in or beside it, the model names patches; where colours mix, it does so by small differences.",
    ),
}


def page(
    checkpoint: str,
    images: Sequence[PIL.Image.Image],
    grids: Sequence[Float[np.ndarray, "h w D"]],
    words: Sequence[str],
    texts: Float[np.ndarray, "T D"],
    pictures: Mapping[str, PIL.Image.Image],
) -> str:
    """The page as text.

    Args:
      checkpoint: what the page calls the model.
      images: to click on.
      grids: the patch embeddings of each.
      words: that patches may be called.
      texts: their embeddings.
      pictures: further ones, by names that begin as in `HEADINGS`.
    """
    sections = []
    for name, picture in pictures.items():
        heading, how_to_read = next(text for beginning, text in HEADINGS.items() if name.startswith(beginning))
        method = {"tsne": " (t-SNE)", "umap": " (UMAP)"}.get(name.rpartition("_")[2], "")
        source = _data_uri(picture, "PNG")
        sections.append(
            f"<section><h2>{heading}{method}</h2><p>{how_to_read}</p>"
            f'<img class="picture" src="{source}" alt="{heading}{method}"></section>'
        )
    data = {"words": list(words), **_reduced(grids, texts), "images": [_shown(image) for image in images]}
    return string.Template(PAGE.read_text("utf-8")).substitute(
        checkpoint=html.escape(checkpoint),
        sections="\n".join(sections),
        # Within a script, "<" could end it.
        data=json.dumps(data).replace("<", "\\u003c"),
    )


def _reduced(grids: Sequence[Float[np.ndarray, "h w D"]], texts: Float[np.ndarray, "T D"]) -> dict:
    """Patches and words in fewer features whose products are nearly the same cosines, as bytes in base64."""
    rows = np.concatenate([*(grid.reshape(-1, grid.shape[-1]) for grid in grids), texts])
    _, vectors = np.linalg.eigh(rows.T @ rows)
    reduced = rows @ vectors[:, ::-1][:, :MOST_FEATURES]
    scale = float(np.abs(reduced).max() / STEPS)
    steps = np.round(reduced / scale).astype(np.int8)
    return {
        "grids": [grid.shape[:2] for grid in grids],
        "features": steps.shape[1],
        "scale": scale,
        "vectors": base64.b64encode(steps.tobytes()).decode(),
    }


def _shown(image: PIL.Image.Image) -> str:
    shown = image.copy()
    shown.thumbnail((IMAGE_PIXELS, IMAGE_PIXELS))
    return _data_uri(shown, "JPEG")


def _data_uri(image: PIL.Image.Image, kind: str) -> str:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 90} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
