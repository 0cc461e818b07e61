"""Every part of the data set, opened with the readers that the real data is opened with."""

import csv
import io
import json
import tarfile
from collections import Counter

import numpy as np
import pytest
import sentencepiece
import webdataset
from PIL import Image

from clippy_jax.datasets import waterbirds_tree
from clippy_jax.shapes.rendering import render
from clippy_jax.shapes.scenes import CLASSES, PLACE_NAMES, sample_scene, scene_rng
from clippy_jax.shapes.waterbirds_tree import BIRDS
from clippy_jax.shapes.webdataset_shards import shard_pattern


def test_webdataset_reads_the_training_pairs(dataset, settings):
    pattern = str(dataset / "train" / shard_pattern(settings))
    assert pattern.endswith("/{00000..00001}.tar")
    samples = list(webdataset.WebDataset(pattern, shardshuffle=False).decode("rgb8").to_tuple("jpg", "txt", "json"))
    assert len(samples) == settings.train_pairs
    for index, (image, caption, metadata) in enumerate(samples):
        assert image.shape == (48, 48, 3) and image.dtype == np.uint8
        assert metadata["caption"] == caption and metadata["status"] == "success"
        assert metadata["key"] == f"{index // 500:05d}{index % 500:04d}"
        assert caption == sample_scene(scene_rng(settings.seed, "train", index)).caption


def test_tars_hold_the_members_of_img2dataset(dataset):
    with tarfile.open(dataset / "train/00001.tar") as tar:
        names = tar.getnames()
    assert names[:3] == ["000010000.jpg", "000010000.txt", "000010000.json"]
    assert len(names) == 3 * 140


@pytest.mark.parametrize(("split", "count"), [("val", 56), ("train", 19), ("test", 56)])
def test_voc_masks_are_palette_images_that_fit_their_photos(dataset, settings, split, count):
    names = (dataset / f"voc/ImageSets/Segmentation/{split}.txt").read_text().split()
    assert len(names) == count
    for index, name in enumerate(names):
        rng = scene_rng(settings.seed, f"voc_{split}", index)
        scene = sample_scene(rng)
        picture = render(scene, settings.image_size, rng)
        with Image.open(dataset / f"voc/SegmentationClass/{name}.png") as mask:
            assert mask.mode == "P"
            np.testing.assert_array_equal(np.asarray(mask), picture.mask)
            palette = np.array(mask.getpalette()).reshape(256, 3)
        with Image.open(dataset / f"voc/JPEGImages/{name}.jpg") as photo:
            assert photo.size == (48, 48) and photo.mode == "RGB"
            assert np.abs(np.asarray(photo, int) - picture.image).mean() < 8
    np.testing.assert_array_equal(
        palette[[0, 1, 2, 3, 8, 15, 20, 255]],
        [
            (0, 0, 0),
            (128, 0, 0),
            (0, 128, 0),
            (128, 128, 0),
            (64, 0, 0),
            (192, 128, 128),
            (0, 64, 128),
            (224, 224, 192),
        ],
    )


def test_voc_vocabulary(dataset):
    vocabulary = json.loads((dataset / "voc/vocabulary.json").read_text())
    assert vocabulary["classes"] == ["background", *CLASSES]
    assert vocabulary["folded_into_background"] == list(PLACE_NAMES)
    prompts = dict(
        zip(vocabulary["classes"] + vocabulary["folded_into_background"], vocabulary["prompts"], strict=True)
    )
    assert prompts["apple"] == "a photo of an apple" and prompts["grass"] == "a photo of grass"


@pytest.mark.parametrize("split", ["val", "test"])
def test_imagenet_tree_has_the_classes_in_equal_numbers(dataset, split):
    tree = dataset / "imagenet" / split
    vocabulary = json.loads((tree / "vocabulary.json").read_text())
    assert (
        sorted(path.name for path in tree.iterdir() if path.is_dir())
        == sorted(vocabulary["classes"])
        == sorted(CLASSES)
    )
    assert {len(list((tree / name).glob("*.jpg"))) for name in CLASSES} == {56 // len(CLASSES)}
    assert vocabulary["templates"][0].format(a="an", c="apple") == "a photo of an apple"
    for path in tree.rglob("*.jpg"):
        with Image.open(path) as image:
            assert image.size == (48, 48) and image.mode == "RGB"


def test_waterbirds_cells(dataset):
    with open(dataset / "waterbirds/metadata.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["img_id", "img_filename", "y", "split", "place", "place_filename"]
    cells = {split: Counter((row["y"], row["place"]) for row in rows if row["split"] == split) for split in "012"}
    assert cells["2"] == {(y, place): 14 for y in "01" for place in "01"}
    assert set(cells["1"].values()) == {7}
    usual = cells["0"]["0", "0"] + cells["0"]["1", "1"]
    assert 0.9 <= usual / sum(cells["0"].values()) < 1
    for row in rows:
        assert row["img_filename"].startswith(BIRDS[int(row["y"])] + "/")
        assert row["place_filename"] == ("grass", "water")[int(row["place"])]
    assert {row["img_filename"] for row in rows} == {
        str(path.relative_to(dataset / "waterbirds")) for path in (dataset / "waterbirds").rglob("*.jpg")
    }


def test_waterbirds_is_read_with_words_of_its_own(dataset):
    tree = waterbirds_tree.read(str(dataset / "waterbirds"))
    assert len(tree.paths) == 56 and not tree.vocabulary.is_waterbirds
    assert tree.vocabulary.birds == BIRDS and tree.vocabulary.places == ("grass", "water")
    assert tree.vocabulary.templates[0].format(a="a", c=tree.vocabulary.background) == "a photo of a background"


def test_waterbirds_images_show_the_place_they_are_filed_under(dataset):
    with open(dataset / "waterbirds/metadata.csv", newline="") as file:
        for row in csv.DictReader(file):
            with Image.open(dataset / "waterbirds" / row["img_filename"]) as image:
                pixels = np.asarray(image, int)
            edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            bluer_than_green = np.median(edge[:, 2] - edge[:, 1]) > 0
            assert bluer_than_green == (row["place"] == "1")


def test_tokenizer_has_the_conventions_of_t5_and_spells_every_caption(dataset, settings):
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(dataset / "tokenizer/spiece.model"))
    assert (tokenizer.pad_id(), tokenizer.eos_id(), tokenizer.unk_id(), tokenizer.bos_id()) == (0, 1, 2, -1)
    assert tokenizer.vocab_size() <= 128
    captions = [sample_scene(scene_rng(settings.seed, "train", index)).caption for index in range(500)]
    captions += ["quick brown fox jumps over a lazy dog"]
    for caption, ids in zip(captions, tokenizer.encode(captions), strict=True):
        assert tokenizer.unk_id() not in ids
        assert tokenizer.decode(ids) == caption
    assert max(len(ids) for ids in tokenizer.encode(captions[:500])) <= 15  # and the end of sentence: 16


def test_the_preview_is_a_picture(dataset):
    with Image.open(dataset / "preview.png") as image:
        assert image.mode == "RGB" and len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 1000


def test_tar_members_can_be_read_by_position(dataset):
    """The tars are plain: each member's bytes lie uncompressed at one offset."""
    content = (dataset / "train/00000.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar.getmembers()[:9]:
            assert content[member.offset_data : member.offset_data + member.size] == tar.extractfile(member).read()
