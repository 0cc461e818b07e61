"""Names the pixels of images, one after the other, by words or by the groups that patches form without them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Float

from clippy_jax.analysis.embedder import Embedder
from clippy_jax.analysis.groups import group_pixels
from clippy_jax.analysis.prompted_words import PromptedWords
from clippy_jax.analysis.segments import Segments, name_pixels


class SegmentedImage(NamedTuple):
    """What was found in an image."""

    segments: Segments
    words: Sequence[str]  # of the segments, by their index
    similarities: Float[np.ndarray, "h w P"] | None  # of patches with names; None for groups
    fed: tuple[int, int]  # height and width, in pixels, at which the model saw the image


class Segmenter:
    """A checkpoint with words to find.

    Args:
      embedder: the checkpoint.
      words: what to tell apart; None for groups without words.
      groups: at most so many, where there are no words.
      resolution: of the short side as fed, as a multiple of the training images' side.
      windows: whether to feed windows of the training size; an image that is too large at once is fed so in any case.
    """

    def __init__(
        self,
        embedder: Embedder,
        words: PromptedWords | None,
        groups: int | None = None,
        resolution: float = 1.0,
        windows: bool = False,
    ):
        self.name = embedder.name
        self.words = words
        self._embedder, self._groups, self._resolution, self._windows = embedder, groups, resolution, windows
        self._names = None if words is None else embedder.model.class_embeddings(words.prompts, for_patches=True)

    def __call__(self, image: PIL.Image.Image) -> SegmentedImage:
        """Segments an image in RGB."""
        embedder, size = self._embedder, (image.height, image.width)
        by_windows = self._windows or embedder.needs_windows(image, self._resolution)
        embedded = (embedder.windows if by_windows else embedder.image)(image, self._resolution)
        if self._names is None:
            segments = group_pixels(embedded.patches, self._groups, *size)
            return SegmentedImage(segments, group_names(len(segments.shares)), None, embedded.fed)
        similarities = embedded.patches @ self._names.T
        segments = name_pixels(similarities, embedder.logit_scale, *size).folded(self.words.word_of_name)
        return SegmentedImage(segments, self.words.words, similarities, embedded.fed)


def group_names(count: int) -> list[str]:
    """What groups are called."""
    return [f"group {number + 1}" for number in range(count)]
