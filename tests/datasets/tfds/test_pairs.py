import builtins
import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from clippy_jax.datasets.sample import BadSample
from clippy_jax.datasets.tfds.pairs import TFDSSource
from clippy_jax.errors import InputError
from clippy_jax.input_pipeline.images import decode


def png(number: int) -> io.BytesIO:
    """A photo of one grey. tfds takes an encoded one as it is; pixels it would encode with TensorFlow."""
    file = io.BytesIO()
    Image.fromarray(np.full((4 + number, 6, 3), 40 * number, np.uint8)).save(file, "png")
    file.seek(0)
    return file


class TinyCaptions(tfds.core.GeneratorBasedBuilder):
    """Five photos; the fourth has no caption."""

    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        features = {"image": tfds.features.Image(encoding_format="png"), "caption": tfds.features.Text()}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, download_manager):
        return {"train": self._generate_examples(range(5)), "test": self._generate_examples(range(2))}

    def _generate_examples(self, numbers):
        for i in numbers:
            yield str(i), {"image": png(i), "caption": "" if i == 3 else f"photo {i}"}


class TinyManyCaptions(TinyCaptions):
    """Several captions an image."""

    def _info(self):
        features = {"picture": tfds.features.Image(), "captions": tfds.features.Sequence(tfds.features.Text())}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, numbers):
        for i in numbers:
            captions = [" "] * (i in (1, 3)) + [f"photo {i}", "another"] * (i != 3)
            yield str(i), {"picture": png(i), "captions": captions}


class TinyLabels(TinyCaptions):
    """No caption at all."""

    def _info(self):
        features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=3)}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, numbers):
        for i in numbers:
            yield str(i), {"image": png(i), "label": i % 3}


@pytest.fixture(scope="module", autouse=True)
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds.core.add_data_dir(folder)
    for builder in (TinyCaptions, TinyManyCaptions, TinyLabels):
        builder(data_dir=folder, file_format="array_record").download_and_prepare()


@pytest.mark.parametrize("data_set", ["tiny_captions", "tiny_captions:1.2.0", "tiny_many_captions"])
@pytest.mark.parametrize("split, count", [("", 5), (":train", 5), (":test", 2), (":train[:60%]", 3)])
def test_samples_of_a_split(data_set, split, count):
    source = TFDSSource(f"tfds:{data_set}{split}")
    assert len(source) == count
    seen = set()
    for i in range(count):
        try:
            image, caption = source[i]
        except BadSample as bad:
            assert bad.cause == "captionless"
            continue
        number = int(caption.removeprefix("photo "))
        pixels = decode(image)
        assert pixels.shape == (4 + number, 6, 3) and (pixels == 40 * number).all()
        assert Image.open(io.BytesIO(image)).format == "PNG", "the image comes encoded"
        seen.add(number)
    if count == 5:
        assert seen == {0, 1, 2, 4}


@pytest.mark.parametrize(
    "name, message",
    [
        ("tfds:no_such_set", "'tfds:no_such_set' cannot be opened"),
        ("tfds:tiny_captions:nosplit", "'tfds:tiny_captions:nosplit' cannot be opened"),
        ("tfds:tiny_labels", "has the features image, label; it needs an image and one of caption"),
        ("tfds:", "'tfds:' cannot be opened"),
    ],
)
def test_bad_names_end_in_one_line(name, message):
    with pytest.raises(InputError, match=message) as error:
        TFDSSource(name)
    assert "\n" not in str(error.value)


def test_without_the_package(monkeypatch):
    original = builtins.__import__

    def without_tfds(name, *arguments, **options):
        if name == "tensorflow_datasets":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_tfds)
    with pytest.raises(InputError, match="needs the package tensorflow_datasets"):
        TFDSSource("tfds:tiny_captions")
