"""A checkpoint at the page's service: it remembers what it embedded last, so that a click costs no second pass."""

import dataclasses
import functools

import numpy as np
import PIL.Image
from jaxtyping import Float

from clippy_jax.datasets.vocabulary import photo_prompt
from clippy_jax.inference import Model
from clippy_jax.input_pipeline import evaluation_image

IMAGES_KEPT = 8
WORDS_KEPT = 1024
# Attention's memory grows with the square of the patches, and a visitor chooses their number.
MOST_PATCHES = 4096


@dataclasses.dataclass(frozen=True)
class EmbeddedImage:
    """An image in the space that it shares with texts; all vectors have length 1.

    Attributes:
      patches: the patch embeddings on their grid.
      pooled: the embedding of the whole image.
      fed: height and width, in pixels, at which the model saw the image.
    """

    patches: Float[np.ndarray, "h w D"]
    pooled: Float[np.ndarray, "D"]
    fed: tuple[int, int]


class Embedder:
    """Embeds whole images at any resolution, and words.

    Attributes:
      name: what the page calls the checkpoint.
      model: does the work.
      logit_scale: turns cosines into logits, as the checkpoint learned it in training.
    """

    def __init__(self, model: Model, name: str):
        self.name = name
        self.model = model
        self.logit_scale = float(np.exp(model.params["logit_scale"]))
        # A word goes through the tower alone, so that one compilation serves lists of any length.
        self._word = functools.lru_cache(WORDS_KEPT)(
            lambda word, for_patches: model.encode_text([photo_prompt(word)], for_patches)[0]
        )
        self._image = functools.lru_cache(IMAGES_KEPT)(self._encode)

    def image(self, image: PIL.Image.Image, resolution: float) -> EmbeddedImage:
        """Embeds a whole image in RGB.

        Args:
          image: of any size.
          resolution: of the short side as it is fed, as a multiple of the training images' side; what would make more
            than `MOST_PATCHES` patches is lowered.
        """
        patch_size = self.model.config.image.patch_size
        short_side = max(1, round(self.model.image_size * resolution / patch_size)) * patch_size
        while True:
            size = evaluation_image.whole_image_size(*image.size, short_side, patch_size)
            if size[0] * size[1] <= MOST_PATCHES * patch_size**2 or short_side == patch_size:
                break
            short_side -= patch_size
        pixels = evaluation_image.resized(image, size)
        return self._image(pixels.tobytes(), pixels.shape)

    def words(self, words: list[str], for_patches: bool = False) -> Float[np.ndarray, "C D"]:
        """One embedding a word, each asked for as "a photo of a(n) {word}"; `for_patches` as of `Model.encode_text`."""
        return np.stack([self._word(word, for_patches) for word in words])

    def _encode(self, pixels: bytes, shape: tuple[int, int, int]) -> EmbeddedImage:
        patches, pooled = self.model.encode_image(np.frombuffer(pixels, np.uint8).reshape(1, *shape))
        return EmbeddedImage(np.asarray(patches[0]), np.asarray(pooled[0]), shape[:2])
