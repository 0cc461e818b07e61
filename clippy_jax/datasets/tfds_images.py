"""A labelled TensorFlow Datasets data set to classify, by random access into its ArrayRecord files."""

import dataclasses
import io
import re
from typing import Any

import PIL.Image

from clippy_jax.datasets import image_file, vocabulary
from clippy_jax.datasets.vocabulary import ClassificationVocabulary
from clippy_jax.errors import InputError

PREFIX = "tfds:"
DEFAULT_SPLIT = "validation"


@dataclasses.dataclass(frozen=True)
class TFDSImages:
    """The images of one split; `image_folder.ImageFolder` is the same for a tree of files."""

    folder: str
    split: str
    vocabulary: ClassificationVocabulary
    data_set: str  # "ImageNet" for its own words, else ""
    class_folders: tuple[str, ...]  # the names that the data set itself has for its classes
    names: tuple[str, ...]  # of the images, for messages
    _image: str
    _label: str
    _source: Any

    def read(self, index: int) -> tuple[PIL.Image.Image, int]:
        """An image and its class; raises `OSError` where it cannot be decoded."""
        example = self._source[index]
        return image_file.open_image(io.BytesIO(example[self._image])), int(example[self._label])


def read(name: str) -> TFDSImages:
    """Opens `tfds:NAME[:split]`, prepared before with `tfds build NAME --file_format=array_record`.

    The classes are the label's, with spaces for underscores, in ImageNet's 80 templates; a data set whose 1000 classes
    are synsets is ImageNet and gets ImageNet's own names.

    Raises:
      InputError: tensorflow_datasets is not installed, the name or split is unknown, it is not prepared for random
        access, or has no image or no label with names.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise InputError(f"{name!r} needs the package tensorflow_datasets; pip install it") from None
    # A version like "1.0.0" after a colon belongs to the name.
    data_set, split = re.fullmatch(r"tfds:(.*?)(?::([A-Za-z_].*))?", name).groups(default=DEFAULT_SPLIT)
    try:
        builder = tfds.builder(data_set, file_format="array_record")
        image, label = (
            _feature(name, builder.info.features, kind) for kind in (tfds.features.Image, tfds.features.ClassLabel)
        )
        source = builder.as_data_source(split, decoders={image: tfds.decode.SkipDecoding()})
    except InputError:
        raise
    except Exception as error:  # every part of it raises its own kinds
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"cannot open {name!r}: {reason}; prepare it with `tfds build {data_set} --file_format=array_record` and "
            "TFDS_DATA_DIR set to where it lies"
        ) from error
    classes = tuple(builder.info.features[label].names)
    words, is_imagenet = _words(classes)
    names = tuple(f"{name}[{index}]" for index in range(len(source)))
    return TFDSImages(name, split, words, "ImageNet" if is_imagenet else "", classes, names, image, label, source)


def _feature(name: str, features: Any, kind: type) -> str:
    for key, feature in features.items():
        if isinstance(feature, kind):
            return key
    raise InputError(f"{name!r} has the features {', '.join(features)}; it needs an Image and a ClassLabel")


def _words(classes: tuple[str, ...]) -> tuple[ClassificationVocabulary, bool]:
    imagenet = vocabulary.imagenet()
    if len(classes) == len(imagenet.names) and all(re.fullmatch(r"n\d{8}", name) for name in classes):
        return imagenet, True
    names = tuple(name.replace("_", " ") for name in classes)
    prompt_set = f"{len(names)} names of the data set x ImageNet's {len(imagenet.templates)} templates"
    own = dataclasses.replace(imagenet, folders=classes, names=names, prompt_set=prompt_set, is_imagenet=False)
    return own, False
