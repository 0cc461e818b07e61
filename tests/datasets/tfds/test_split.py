"""TFDS's own data sets, small: the real builders' names and features, examples that the tests write."""

import concurrent.futures
import io
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from clippy_jax.datasets import label_layouts, retrieval_pairs
from clippy_jax.datasets.sample import BadSample, StorageAway
from clippy_jax.datasets.sources import open_source
from clippy_jax.datasets.tfds import images as tfds_images
from clippy_jax.datasets.tfds import split as tfds_split
from clippy_jax.errors import InputError
from clippy_jax.evaluators import retrieval, segmentation, zero_shot_classification
from clippy_jax.input_pipeline import training_dataset
from clippy_jax.input_pipeline.images import decode
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel
from tests.inputs import encode, make_photo

FORMATS = ("array_record", "tfrecord")


def prepare(name: str, split: str, examples: list, folder: pathlib.Path, file_format: str) -> None:
    """Writes examples as the builder of that name would those that it downloads."""
    builder = tfds.builder(name, data_dir=folder, file_format=file_format)
    builder._split_generators = lambda *arguments, **options: {split: [*enumerate(examples)]}
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3))


def jpeg(number: int) -> io.BytesIO:
    return io.BytesIO(encode(make_photo(number), quality=90))


@pytest.fixture(scope="module", params=FORMATS)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    captions = [{"text": f"photo {i}", "id": i} for i in range(20)]
    pairs = [
        {
            "image": jpeg(i),
            "image/filename": f"{i}.jpg",
            "image/id": i,
            "captions": [captions[i], {"text": "another", "id": 100 + i}],
            "objects": [
                {
                    "id": i,
                    "area": 5,
                    "bbox": tfds.features.BBox(0.0, 0.0, 0.5, 0.5),
                    "label": i % 80,
                    "is_crowd": False,
                }
            ],
        }
        for i in range(20)
    ]
    prepare("coco_captions", "train", pairs, folder, request.param)
    labelled = [{"image": jpeg(i), "label": 50 * i, "file_name": f"{i}.JPEG"} for i in range(11)]
    prepare("imagenet2012", "validation", labelled, folder, request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        patch.setattr(tfds.core.utils.file_utils, "list_data_dirs", lambda *arguments, **options: [str(folder)])
        yield folder


def test_coco_captions_are_training_data(folder, input_config):
    config = input_config("tfds:coco_captions")
    source = open_source(config)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        samples = list(pool.map(source.__getitem__, [*range(20)] * 5))
    assert samples[:20] * 4 == samples[20:]
    assert {sample.caption for sample in samples} == {f"photo {i}" for i in range(20)}
    for image, caption in samples[:20]:
        assert image == jpeg(int(caption.removeprefix("photo "))).getvalue(), "encoded as it is in the files"
    batches = list(training_dataset(config, 0, 6).as_numpy_iterator())
    for batch, again in zip(batches[4:], training_dataset(config, 4, 2).as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(batch.images, again.images)
        np.testing.assert_array_equal(batch.tokens, again.tokens)


def test_coco_captions_are_retrieved(folder):
    """Five captions of an image at most; here each has two, of which one is everybody's."""
    measured = retrieval.Retrieval("tfds:coco_captions", split="train").run(FakeModel(8), batch_size=8, image_size=32)
    assert (measured.images, measured.captions, measured.split) == (20, 40, "train")
    pairs = retrieval_pairs.read("tfds:coco_captions:train[:6]")
    assert len(pairs.images) == 6 and pairs.captions[1::2] == ("another",) * 6
    for index, caption in enumerate(pairs.captions[::2]):
        expected = decode(jpeg(int(caption.removeprefix("photo "))).getvalue())
        np.testing.assert_array_equal(np.asarray(pairs.open_image(index)), expected)


def test_both_formats_hold_the_same(folder):
    """In an order that TFDS chose when it wrote them, which is the same for both."""
    whole = tfds_split.TFDSSplit("tfds:coco_captions", "train")
    numbers = [int(whole[i]["image/id"]) for i in range(len(whole))]
    assert sorted(numbers) == list(range(20))
    parts = [tfds_split.TFDSSplit(f"tfds:coco_captions:train[{part}]", "") for part in (":30%", "6:12", "12:")]
    assert [len(part) for part in parts] == [6, 6, 8]
    assert [int(part[i]["image/id"]) for part in parts for i in range(len(part))] == numbers
    with pytest.raises(InputError, match="cannot be opened .*; prepare it with"):
        tfds_split.TFDSSplit("tfds:coco_captions:train[:0]", "")


def test_imagenet_is_classified_by_its_own_words(folder):
    evaluator = zero_shot_classification.ZeroShotClassification("tfds:imagenet2012")
    result = evaluator.run(FakeModel(8), batch_size=8, image_size=32)
    assert (result.images, result.split, result.data_set) == (11, "validation", "ImageNet")
    images = tfds_images.read("tfds:imagenet2012")
    read = {label: np.asarray(image) for image, label in map(images.read, range(11))}
    for number in range(11):
        np.testing.assert_array_equal(read[50 * number], decode(jpeg(number).getvalue()))
    assert images.vocabulary.names[0] == "tench"


@pytest.mark.parametrize("folder", ["tfrecord"], indirect=True)
def test_a_tfrecord_cut_short_is_bad_samples_and_one_gone_is_waited_for(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(tfds.core.utils.file_utils, "list_data_dirs", lambda *arguments, **options: [str(tmp_path)])
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    source = tfds_split.TFDSSplit("tfds:coco_captions", "train")
    first, second, _ = sorted(tmp_path.rglob("coco_captions-train.tfrecord*"))
    os.truncate(first, first.stat().st_size - 100)
    os.remove(second)
    outcomes = []
    for index in range(20):
        try:
            source[index]
        except (BadSample, StorageAway) as error:
            outcomes.append(str(error) if isinstance(error, BadSample) else "away")
    assert outcomes.count("truncated") == 1 and 6 <= outcomes.count("away") <= 8
    shutil.copy(next(folder.rglob(second.name)), second)
    measured = retrieval_pairs.read("tfds:coco_captions:train")
    assert len(measured.images) == 19 and measured.split.startswith("train (left out: 1 truncated; the first: ")


@pytest.mark.parametrize("folder", ["tfrecord"], indirect=True)
def test_voc_is_the_tree_that_tfds_unpacked(folder):
    voc = {"image": jpeg(0), "image/filename": "0.jpg", "objects": [], "labels": [], "labels_no_difficult": []}
    prepare("voc/2012", "validation", [voc] * 3, folder, "tfrecord")
    with pytest.raises(InputError, match="holds no VOCdevkit/VOC2012 with SegmentationClass; prepare it"):
        tfds_split.voc_folder("tfds:voc/2012")
    with pytest.raises(InputError, match="has no masks"):
        tfds_split.voc_folder("tfds:coco/2017")
    unpacked = folder / "downloads" / "extracted" / "TAR.host.robots.ox.ac.uk_VOCtrainval" / "VOCdevkit" / "VOC2012"
    trees.voc_tree(unpacked, [(50, 40), (40, 50), (50, 40)])

    def confusion(folder: str):
        evaluator = segmentation.Segmentation(folder, label_layouts.VOC)
        return evaluator.run(FakeModel(8), batch_size=8, image_size=32).confusion

    assert confusion("tfds:voc/2012") == confusion(str(unpacked))
