"""A model that names patches by their colour, with what the page uses of `clippy_jax.inference.Model`."""

import zlib
from types import SimpleNamespace

import numpy as np
import PIL.ImageColor

PATCH = 8
IMAGE_SIZE = 32
LOGIT_SCALE = 20.0


class ColourModel:
    """A patch's embedding is its mean colour, a word's the colour that it names, the image's the mean over patches."""

    def __init__(self):
        self.config = SimpleNamespace(
            text=SimpleNamespace(vocabulary_size=128), image=SimpleNamespace(patch_size=PATCH), pooling="avg"
        )
        self.image_size = IMAGE_SIZE
        self.params = {"logit_scale": np.log(LOGIT_SCALE)}
        self.images_encoded = 0
        self.texts_encoded = []

    def __repr__(self):
        return "a model that knows colours"

    def encode_image(self, images):
        self.images_encoded += len(images)
        batch, height, width, _ = images.shape
        cut = images.reshape(batch, height // PATCH, PATCH, width // PATCH, PATCH, 3)
        means = cut.mean(axis=(2, 4))
        return embedding(means), embedding(means.mean(axis=(1, 2)))

    def encode_text(self, texts, for_patches=False):
        self.texts_encoded += texts
        return np.stack([embedding(np.array(colour_of(text.split()[-1]), float)) for text in texts])


def embedding(colours):
    """Unit vectors of RGB colours; far colours are at wide angles."""
    centred = np.concatenate([colours / 255 - 0.5, np.full((*colours.shape[:-1], 1), 0.1)], axis=-1)
    return (centred / np.linalg.norm(centred, axis=-1, keepdims=True)).astype(np.float32)


def colour_of(word: str) -> tuple[int, int, int]:
    """The colour that Pillow knows by a name, lime for background; of other words one that follows from the letters."""
    if word == "background":
        return (0, 255, 0)
    try:
        return PIL.ImageColor.getrgb(word)[:3]
    except ValueError:
        return tuple(zlib.crc32(word.encode()).to_bytes(4, "big")[:3])
