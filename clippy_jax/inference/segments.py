"""A photo's pixels named by words, at the photo's own size."""

import numpy as np
import PIL.Image
from jaxtyping import Float, Int32

from clippy_jax.inference import label_maps
from clippy_jax.inference.encoder import Encoder
from clippy_jax.input_pipeline import evaluation_image


def segment(
    model: Encoder, photo: PIL.Image.Image, classes: Float[np.ndarray, "C D"], image_size: int
) -> Int32[np.ndarray, "H W"]:
    """The index of the most similar class at every pixel of a photo, at the photo's own size.

    The whole photo is fed, its short side at `image_size` pixels, as protocol `standard` does.
    """
    pixels = evaluation_image.whole_image(photo, image_size, model.config.image.patch_size)
    patches, _ = model.encode_image(pixels[None])
    return label_maps.name_pixels(patches[0], classes, photo.height, photo.width)
