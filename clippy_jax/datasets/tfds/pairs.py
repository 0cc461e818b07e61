"""A TensorFlow Datasets data set of images and captions as a source."""

from typing import Any

from clippy_jax.datasets import patterns
from clippy_jax.datasets.sample import BadCounts, BadSample, Sample, Source, digest_of
from clippy_jax.datasets.tfds.split import TFDSSplit
from clippy_jax.errors import InputError

CAPTION_FEATURES = ("caption", "captions", "title", "text")


class TFDSSource(Source):
    """`tfds:NAME[:split]` with an image feature and a text feature; of several captions, the first with text."""

    def __init__(self, name: str, default_split: str = "train"):
        """Opens a data set.

        Raises:
          InputError: as `TFDSSplit` does, or it has no image or caption.
        """
        self.left_out = BadCounts()
        try:
            self._examples = TFDSSplit(name, default_split)
        except InputError as error:
            raise InputError(f"{patterns.KEY}: {error}") from error
        import tensorflow_datasets as tfds

        features = self._examples.features
        images = self._examples.keys(tfds.features.Image)
        captions = [key for key in CAPTION_FEATURES if key in features]
        if not images or not captions:
            raise InputError(
                f"{patterns.KEY}: {name!r} has the features {', '.join(features)}; "
                f"it needs an image and one of {', '.join(CAPTION_FEATURES)}"
            )
        self.split = self._examples.split
        self._image, self._caption = images[0], captions[0]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Sample:
        example = self._examples[index]
        caption = next(filter(str.strip, _texts(example[self._caption])), None)
        if caption is None:
            raise BadSample("captionless")
        return Sample(example[self._image], caption)

    def captions(self, index: int) -> list[str]:
        """All captions of an image; raises as `TFDSSplit` does."""
        return _texts(self._examples[index][self._caption])

    def images_digest(self) -> str:
        """As `Source` does: by the name and the number of examples."""
        return digest_of([self._examples.name, str(len(self))])

    def name(self, index: int) -> str:
        """Where a sample lies, for messages."""
        return f"{self._examples.name}[{index}]"


def _texts(captions: Any) -> list[str]:
    """The text of a Text feature, or of a sequence of them, or of COCO's with their numbers."""
    if isinstance(captions, dict):
        captions = captions.get("text", ())
    if isinstance(captions, (str, bytes)):
        captions = [captions]
    return [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in captions]
