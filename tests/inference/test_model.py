"""What users hand to a model: one or several, upright or not, on any device; and what it refuses."""

import dataclasses

import jax
import numpy as np
import PIL.Image
import pytest
import torch

from clippy_jax.errors import InputError
from clippy_jax.inference import Model
from clippy_jax.input_pipeline.tokenizer import load_tokenizer
from clippy_jax.mesh import batch_sharding
from clippy_jax.models.clippy import CLIPpy
from tests.models import configurations

SIZE = 32
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def model(spiece_folder):
    config = configurations.model(configurations.image_tower(image_size=SIZE))
    images, tokens = np.zeros((1, SIZE, SIZE, 3), np.uint8), np.ones((1, 4), np.int32)
    params = jax.jit(CLIPpy(config).init)(jax.random.key(0), images, tokens)["params"]
    return Model(params, config, load_tokenizer(str(spiece_folder)), SIZE)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (SIZE, 2 * SIZE, 3), dtype=np.uint8)


def test_texts_for_patches_have_what_answers_to_patches_alone(model, spiece_folder):
    """With "cls_and_avg" as in dino.txt: the second half of each prompt's vector at length 1, then the mean."""
    text = configurations.text_tower(vocabulary_size=320, embedding_width=96)
    config = configurations.model(model.config.image, text, pooling="cls_and_avg")
    images, tokens = np.zeros((1, SIZE, SIZE, 3), np.uint8), np.ones((1, 4), np.int32)
    params = jax.jit(CLIPpy(config).init)(jax.random.key(0), images, tokens)["params"]
    tokenizer = load_tokenizer(str(spiece_folder))
    model = Model(params, config, tokenizer, SIZE)
    prompts = ["an apple", "a zebra on grass"]
    halves = model.encode_text(prompts)[:, 48:]
    halves = halves / np.linalg.norm(halves, axis=1, keepdims=True)
    classes = model.class_embeddings([prompts, prompts[:1]], for_patches=True)
    mean = halves.mean(axis=0)
    expected = np.stack([mean / np.linalg.norm(mean), halves[0]])
    np.testing.assert_allclose(classes, np.pad(expected, ((0, 0), (48, 0))), atol=1e-6)
    with_other_pooling = Model(params, dataclasses.replace(config, pooling="max"), tokenizer, SIZE)
    whole = with_other_pooling.encode_text(prompts, for_patches=True)
    np.testing.assert_array_equal(whole, model.encode_text(prompts))
    patches, pooled = model.encode_image(images)
    assert patches.shape == (1, 2, 2, 96) and pooled.shape == (1, 96)
    assert not np.asarray(patches[..., :48]).any()


def assert_same(ours, expected):
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_images_are_turned_the_way_up_that_their_camera_noted(model, pixels, tmp_path):
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6  # the camera was held upright: turn it by a quarter to the right
    PIL.Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = np.rot90(pixels, -1).copy()
    for image in (tmp_path / "turned.png", str(tmp_path / "turned.png"), PIL.Image.open(tmp_path / "turned.png")):
        assert_same(model.encode_image([image]), model.encode_image([upright]))
        assert model.segment(image, ["apple", "zebra"]).shape == (2 * SIZE, SIZE)
    np.testing.assert_array_equal(
        model.segment(tmp_path / "turned.png", ["apple", "zebra"]), model.segment(upright, ["apple", "zebra"])
    )


@pytest.mark.parametrize("name, reason", [("missing.jpg", ": it does not exist"), ("words.jpg", "")])
def test_files_that_are_no_images_are_one_line(model, tmp_path, name, reason):
    (tmp_path / "words.jpg").write_text("no image")
    for use in (lambda path: model.encode_image([path]), lambda path: model.segment(path, ["apple", "zebra"])):
        with pytest.raises(InputError) as error:
            use(str(tmp_path / name))
        assert str(error.value) == f"{tmp_path / name} cannot be read as an image{reason}"


def test_one_text_and_one_image_are_one_item(model, pixels, tmp_path):
    text = "a photo of a zebra"
    np.testing.assert_allclose(model.encode_text(text), model.encode_text([text]), atol=1e-6)
    path = tmp_path / "image.png"
    PIL.Image.fromarray(pixels).save(path)
    expected = model.encode_image([pixels])
    assert expected[1].shape[0] == 1
    for image in (pixels, str(path), path, PIL.Image.fromarray(pixels)):
        assert_same(model.encode_image(image), expected)


@pytest.mark.parametrize(
    "texts, kind",
    [
        ([7], "of int"),
        (["a photo", b"a photo"], "of bytes"),
        ([None], "of NoneType"),
        (None, "a NoneType"),
        (b"a photo", "a bytes"),
        ({"a photo", "a picture"}, "a set"),
    ],
)
def test_texts_are_strings(model, texts, kind):
    with pytest.raises(ValueError, match=f"texts must be a string or a list of strings, not {kind}"):
        model.encode_text(texts)


def test_labels_are_named_once(model, pixels):
    with pytest.raises(ValueError, match="'apple' is among the labels more than once"):
        model.segment(pixels, ["apple", "zebra", "apple"])


def test_a_text_with_half_a_character_is_a_text(model):
    """As JSON and command lines may hold it."""
    np.testing.assert_array_equal(model.encode_text("a photo \ud83d"), model.encode_text("a photo ?"))


@pytest.mark.parametrize("labels", ["apple,zebra", "apple", [], [1, 2], {"apple", "zebra"}, ["apple", " "], None])
def test_labels_are_a_list_of_words(model, pixels, labels):
    with pytest.raises(ValueError, match=r'labels must be a list of words such as \["cat", "dog"\], not '):
        model.segment(pixels, labels)


def test_arrays_on_any_device_or_mesh(model):
    images = np.random.default_rng(1).integers(0, 256, (11, SIZE, SIZE + 16, 3), dtype=np.uint8)
    expected = model.encode_image(images)
    attention = model.attention(images)
    assert attention.shape[0] == expected[0].shape[0] == 11
    for device in (jax.devices()[0], jax.devices()[-1]):
        assert_same(model.encode_image(jax.device_put(images, device)), expected)
        np.testing.assert_allclose(model.attention(jax.device_put(images, device)), attention, atol=1e-5)
    assert_same(model.encode_image(jax.numpy.asarray(images)), expected)
    assert_same(jax.jit(model.encode_image)(images), expected)
    placed = jax.device_put(images[:8], batch_sharding(model.mesh))
    patches, pooled = model.encode_image(placed)
    assert_same((patches, pooled), (expected[0][:8], expected[1][:8]))
    assert pooled.sharding.device_set == set(model.mesh.devices.flat)


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((2, SIZE, SIZE, 3), np.float32), r"must be uint8 \[B, H, W, 3\], not float32 \[2, 32, 32, 3\]"),
        (np.zeros((2, 3, SIZE, SIZE), np.uint8), r"must be uint8 \[B, H, W, 3\], not uint8 \[2, 3, 32, 32\]"),
        (np.zeros((SIZE, SIZE), np.uint8), r"must be uint8 \[B, H, W, 3\], not uint8 \[32, 32\]"),
        (np.zeros((SIZE, SIZE, 3), np.float32), r"must be an array of uint8 \[H, W, 3\], not float32 \[32, 32, 3\]"),
        (np.zeros((2, SIZE, 33, 3), np.uint8), "patches of 16 pixels do not divide images of 32x33 pixels"),
        ([torch.zeros(SIZE, SIZE, 3)], "must be a path, a Pillow image or a uint8 array, not Tensor"),
        ([7], "must be a path, a Pillow image or a uint8 array, not int"),
        (None, "must be a path, a Pillow image or a uint8 array, not NoneType"),
        (b"\xff\xd8", "must be a path, a Pillow image or a uint8 array, not bytes"),
        ([], "there is no image to encode"),
        (np.zeros((0, SIZE, SIZE, 3), np.uint8), r"must be uint8 \[B, H, W, 3\], not uint8 \[0, 32, 32, 3\]"),
    ],
)
def test_arrays_that_are_no_images_are_refused_in_one_sentence(model, images, message):
    for use in (model.encode_image, model.attention):
        with pytest.raises(ValueError, match=message) as error:
            use(images)
        assert "\n" not in str(error.value)
