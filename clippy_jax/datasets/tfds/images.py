"""A labelled TensorFlow Datasets data set to classify."""

import dataclasses
import io
import re

import PIL.Image

from clippy_jax.datasets import image_file, vocabulary
from clippy_jax.datasets.sample import BadSample, StorageAway
from clippy_jax.datasets.tfds.split import TFDSSplit
from clippy_jax.datasets.vocabulary import ClassificationVocabulary
from clippy_jax.errors import InputError


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
    _examples: TFDSSplit

    def read(self, index: int) -> tuple[PIL.Image.Image, int]:
        """An image and its class; raises `OSError` where it cannot be read."""
        try:
            example = self._examples[index]
        except (BadSample, StorageAway) as error:
            raise OSError(f"{self.names[index]}: {error}") from error
        return image_file.open_image(io.BytesIO(example[self._image])), int(example[self._label])


def read(name: str) -> TFDSImages:
    """Opens `tfds:NAME[:split]`, of the split "validation" by default.

    The classes are the label's, with spaces for underscores, in ImageNet's 80 templates; a data set whose 1000 classes
    are synsets is ImageNet and gets ImageNet's own names.

    Raises:
      InputError: as `TFDSSplit` does, or it has no image or no label with names.
    """
    examples = TFDSSplit(name, "validation")
    import tensorflow_datasets as tfds

    images, labels = (examples.keys(kind) for kind in (tfds.features.Image, tfds.features.ClassLabel))
    if not images or not labels:
        raise InputError(
            f"{name!r} has the features {', '.join(examples.features)}; it needs an Image and a ClassLabel"
        )
    classes = tuple(examples.features[labels[0]].names)
    words = _vocabulary(classes)
    data_set = "ImageNet" if words.is_imagenet else ""
    names = tuple(f"{name}[{index}]" for index in range(len(examples)))
    return TFDSImages(name, examples.split, words, data_set, classes, names, images[0], labels[0], examples)


def _vocabulary(classes: tuple[str, ...]) -> ClassificationVocabulary:
    imagenet = vocabulary.imagenet()
    if len(classes) == len(imagenet.names) and all(re.fullmatch(r"n\d{8}", name) for name in classes):
        return imagenet
    names = tuple(name.replace("_", " ") for name in classes)
    prompt_set = f"{len(names)} names of the data set x ImageNet's {len(imagenet.templates)} templates"
    return dataclasses.replace(imagenet, folders=classes, names=names, prompt_set=prompt_set, is_imagenet=False)
