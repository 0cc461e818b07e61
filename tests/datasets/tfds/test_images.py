import io

import numpy as np
import pytest
import tensorflow_datasets as tfds

from clippy_jax.datasets.tfds import images as tfds_images
from clippy_jax.errors import InputError
from clippy_jax.evaluators.zero_shot_classification import ZeroShotClassification
from clippy_jax.input_pipeline import evaluation_image
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel


class TinyBirds(tfds.core.GeneratorBasedBuilder):
    """Twelve photos of three classes, the last without a label."""

    VERSION = tfds.core.Version("1.0.0")
    LABEL = tfds.features.ClassLabel(names=["house_finch", "owl", "jay"])

    def _info(self):
        features = {"photo": tfds.features.Image(encoding_format="png"), "label": self.LABEL}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, download_manager):
        return {"validation": self._generate_examples(12), "unlabelled": self._generate_examples(1, labelled=False)}

    def _generate_examples(self, count, labelled=True):
        random = np.random.default_rng(0)
        for number in range(count):
            file = io.BytesIO()
            trees.picture(random, 40 + number, 50).save(file, "png")
            file.seek(0)
            yield number, {"photo": file, "label": number % 3 if labelled else -1}


class TinyUnnamed(TinyBirds):
    """Labels that are bare numbers."""

    LABEL = tfds.features.Scalar(np.int64)


@pytest.fixture(scope="module", autouse=True)
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds.core.add_data_dir(folder)
    for builder in (TinyBirds, TinyUnnamed):
        builder(data_dir=folder, file_format="array_record").download_and_prepare()


def test_counts_what_the_same_images_in_folders_would():
    settings = dict(batch_size=8, image_size=32, progress=False)
    result = ZeroShotClassification("tfds:tiny_birds").run(FakeModel(8), **settings)
    assert (result.images, result.split, result.data_set) == (12, "validation", "")
    assert set(result.per_class_top1) == {"house_finch", "owl", "jay"}
    images = tfds_images.read("tfds:tiny_birds:validation")
    model = FakeModel()
    classes = np.stack([model.encode_text(of_class).mean(0) for of_class in images.vocabulary.prompts()])
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    right = []
    for index in range(12):
        image, label = images.read(index)
        pixels = evaluation_image.centre_crop(image, 32)
        right.append(int((np.asarray(model.encode_image(pixels[None])[1]) @ classes.T).argmax()) == label)
    assert result.top1 == np.mean(right)
    with pytest.raises(InputError, match="tfds:tiny_birds:unlabelled has no image with a label"):
        ZeroShotClassification("tfds:tiny_birds:unlabelled").run(FakeModel(8), **settings)


def test_words_are_the_labels_in_imagenets_templates():
    words = tfds_images.read("tfds:tiny_birds").vocabulary
    assert words.names == ("house finch", "owl", "jay") and len(words.templates) == 80
    assert "a photo of a house finch." in words.prompts()[0]
    assert words.prompt_set == "3 names of the data set x ImageNet's 80 templates"
    imagenet = tfds_images._vocabulary(tuple(f"n{number:08d}" for number in range(1000)))
    assert imagenet.is_imagenet and imagenet.names[0] == "tench"


@pytest.mark.parametrize(
    "name, message",
    [
        ("tfds:nothing_of_that_name", "'tfds:nothing_of_that_name' cannot be opened .* prepare it with"),
        ("tfds:tiny_birds:test", "'tfds:tiny_birds:test' cannot be opened"),
        ("tfds:tiny_unnamed", "'tfds:tiny_unnamed' has the features .*; it needs an Image and a ClassLabel"),
    ],
)
def test_what_cannot_be_classified_is_one_line(name, message):
    with pytest.raises(InputError, match=message) as error:
        tfds_images.read(name)
    assert "\n" not in str(error.value)
