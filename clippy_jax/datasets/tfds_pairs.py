"""A TensorFlow Datasets data set as a source, by random access into its ArrayRecord files (no TensorFlow graph)."""

import re
from typing import Any

from clippy_jax.datasets import patterns
from clippy_jax.datasets.sample import BadSample, Sample
from clippy_jax.errors import InputError

PREFIX = "tfds:"
CAPTION_FEATURES = ("caption", "captions", "title", "text")


class TFDSSource:
    """`tfds:NAME[:split]` with an image feature and a text feature; of several captions of an image, the first."""

    left_out: dict[str, int] = {}

    def __init__(self, name: str):
        """Opens a data set, prepared before (`tfds build NAME --file_format=array_record`), split "train" by default.

        Raises:
          InputError: tensorflow_datasets is not installed, the name or split is unknown, it is not prepared for
            random access, or has no image or caption.
        """
        try:
            import tensorflow_datasets as tfds
        except ImportError:
            raise InputError(
                f"{patterns.KEY}: {name!r} needs the package tensorflow_datasets; pip install it"
            ) from None

        # A version like "1.0.0" after a colon belongs to the name.
        data_set, split = re.fullmatch(r"tfds:(.*?)(?::([A-Za-z_].*))?", name).groups(default="train")
        try:
            builder = tfds.builder(data_set, file_format="array_record")
            self._image, self._caption = _features(name, builder.info.features, tfds)
            self._source = builder.as_data_source(split, decoders={self._image: tfds.decode.SkipDecoding()})
        except InputError:
            raise
        except Exception as error:  # every part of it raises its own kinds
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{patterns.KEY}: cannot open {name!r}: {reason}; prepare it with "
                f"`tfds build {data_set} --file_format=array_record` and TFDS_DATA_DIR set to where it lies"
            ) from error

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        example = self._source[index]
        caption = _first(example[self._caption])
        if not caption:
            raise BadSample("captionless")
        return Sample(example[self._image], caption)


def _features(name: str, features: Any, tfds: Any) -> tuple[str, str]:
    """The names of the image and the caption feature."""
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    captions = [key for key in CAPTION_FEATURES if key in features]
    if not images or not captions:
        raise InputError(
            f"{patterns.KEY}: {name!r} has the features {', '.join(features)}; "
            f"it needs an image and one of {', '.join(CAPTION_FEATURES)}"
        )
    return images[0], captions[0]


def _first(caption: Any) -> str:
    """The text of a Text feature, or the first of a sequence of them."""
    if not isinstance(caption, (str, bytes)):
        if len(caption) == 0:
            return ""
        caption = caption[0]
    return caption.decode("utf-8", "replace") if isinstance(caption, bytes) else caption
