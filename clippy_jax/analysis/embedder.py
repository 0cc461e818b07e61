"""A checkpoint that embeds whole images and remembers what it embedded last, so that a click costs no second pass."""

import dataclasses
import functools

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

from clippy_jax.datasets.vocabulary import photo_prompt
from clippy_jax.inference import Model
from clippy_jax.inference.sliding_window import Side
from clippy_jax.input_pipeline import evaluation_image

IMAGES_KEPT = 8
WORDS_KEPT = 1024
# Attention's memory grows with the square of the patches, and their number is the user's choice.
MOST_PATCHES = 4096
WINDOWS_PER_CALL = 8


@dataclasses.dataclass(frozen=True)
class EmbeddedImage:
    """An image in the space that it shares with texts; all vectors have length 1.

    Attributes:
      patches: the patch embeddings on their grid; where windows overlap, the mean of theirs, which is a little shorter.
      pooled: the embedding of the whole image.
      fed: height and width, in pixels, at which the model saw the image.
    """

    patches: Float[np.ndarray, "h w D"]
    pooled: Float[np.ndarray, "D"]
    fed: tuple[int, int]

    def patch_at(self, point: tuple[float, float]) -> tuple[int, int]:
        """Row and column of the patch under a point: x and y as shares of the image's width and height, from 0 to 1."""
        x, y = point
        row, column = (
            min(max(int(share * count), 0), count - 1) for share, count in zip((y, x), self.patches.shape[:2])
        )
        return row, column

    def similarity_to_patch(self, patch: tuple[int, int]) -> Float[np.ndarray, "h w"]:
        """The cosine of every patch with the one at a row and column."""
        return self.patches @ self.patches[patch]


class Embedder:
    """Embeds whole images at any resolution, and words.

    Attributes:
      name: what pages and files call the checkpoint.
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
        """Embeds a whole image in RGB at once.

        Args:
          image: of any size.
          resolution: of the short side as it is fed, as a multiple of the training images' side; what would make more
            than `MOST_PATCHES` patches is lowered.
        """
        short_side, patch_size = self._short_side(resolution), self.model.config.image.patch_size
        while self._patches(image, short_side) > MOST_PATCHES and short_side > patch_size:
            short_side -= patch_size
        pixels = evaluation_image.whole_image(image, short_side, patch_size)
        return self._image(pixels.tobytes(), pixels.shape)

    def windows(self, image: PIL.Image.Image, resolution: float) -> EmbeddedImage:
        """The same by windows as large as the training images, each half over the next; nothing is lowered.

        The similarity of a patch with a word is then the mean over the windows that hold it, as in
        `inference/sliding_window.py`.
        """
        pixels = evaluation_image.whole_image(image, self._short_side(resolution), self.model.config.image.patch_size)
        return self._encode_windows(pixels)

    def needs_windows(self, image: PIL.Image.Image, resolution: float) -> bool:
        """Whether `image` would lower the resolution."""
        return self._patches(image, self._short_side(resolution)) > MOST_PATCHES

    def words(self, words: list[str], for_patches: bool = False) -> Float[np.ndarray, "C D"]:
        """One embedding a word, each asked for as "a photo of a(n) {word}"; `for_patches` as of `Model.encode_text`."""
        return np.stack([self._word(word, for_patches) for word in words])

    def _short_side(self, resolution: float) -> int:
        patch_size = self.model.config.image.patch_size
        return max(1, round(self.model.image_size * resolution / patch_size)) * patch_size

    def _patches(self, image: PIL.Image.Image, short_side: int) -> int:
        patch_size = self.model.config.image.patch_size
        width, height = evaluation_image.whole_image_size(*image.size, short_side, patch_size)
        return width * height // patch_size**2

    def _encode(self, pixels: bytes, shape: tuple[int, int, int]) -> EmbeddedImage:
        patches, pooled = self.model.encode_image(np.frombuffer(pixels, np.uint8).reshape(1, *shape))
        return EmbeddedImage(np.asarray(patches[0]), np.asarray(pooled[0]), shape[:2])

    def _encode_windows(self, pixels: UInt8[np.ndarray, "H W 3"]) -> EmbeddedImage:
        patch_size, window = self.model.config.image.patch_size, self.model.image_size
        stride = max(1, window // (2 * patch_size)) * patch_size
        sides = [Side.of(length, window, stride, patch_size, False, "patches") for length in pixels.shape[:2]]
        tops, lefts = (np.asarray(side.begins(length)) for side, length in zip(sides, pixels.shape))
        corners = [(top, left) for top in tops for left in lefts]
        height, width = (side.window for side in sides)

        grid = [length // patch_size for length in pixels.shape[:2]]
        total, windows, pooled_total = 0.0, np.zeros((*grid, 1), np.float32), 0.0
        count = min(WINDOWS_PER_CALL, len(corners))
        for start in range(0, len(corners), count):
            of_call = corners[start : start + count]
            cut = [pixels[top : top + height, left : left + width] for top, left in of_call]
            cut += cut[-1:] * (count - len(cut))  # one shape for all calls
            patches, pooled = map(np.asarray, self.model.encode_image(np.stack(cut)))
            if start == 0:
                total = np.zeros((*grid, patches.shape[-1]), np.float32)
            for (top, left), of_window in zip(of_call, patches):
                row, column = top // patch_size, left // patch_size
                place = np.s_[row : row + of_window.shape[0], column : column + of_window.shape[1]]
                total[place] += of_window
                windows[place] += 1
            pooled_total = pooled_total + pooled[: len(of_call)].sum(axis=0)
        return EmbeddedImage(total / windows, pooled_total / np.linalg.norm(pooled_total), pixels.shape[:2])
