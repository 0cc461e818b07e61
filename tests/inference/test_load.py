"""`clippy_jax.load` on files of each kind, beside the PyTorch modules that the files are of."""

import dataclasses

import numpy as np
import PIL.Image
import pytest
import torch

import clippy_jax
from clippy_jax.convert import main as convert_main
from clippy_jax.inference import model as inference_model
from clippy_jax.input_pipeline.tokenizer import copy_tokenizer
from clippy_jax.weights.clippy_file import write_clippy, write_clippy_safetensors
from clippy_jax.weights.converted_folder import write_converted_folder
from clippy_jax.weights.load import load_checkpoint
from tests.models import configurations
from tests.models.torch_twin import public_names, random_twin, relative_error
from tests.training.tiny_run import tiny_config
from tests.weights import public_files
from tests.weights.saved_run import save_run

TEXTS = [
    "a photo of a cat",
    "",
    "  two \t dogs\n on a street ",
    "☃ 😀 a boat",
    "a",
    *(" ".join(["zebra"] * count) for count in (7, 30, 300)),
]


@pytest.fixture(scope="module")
def twin():
    """Sizes that a file tells by itself, every parameter random."""
    config = configurations.model(
        configurations.image_tower(width=64, heads=1, mlp_width=96),
        configurations.text_tower(vocabulary_size=public_files.VOCABULARY, embedding_width=64),
        pooling="max_with_cls",
        image_projection=False,
    )
    return random_twin(config)


@pytest.fixture(scope="module")
def public_file(twin, tmp_path_factory):
    """`clippy_5k.pt` as the public code writes it, from the twin's own tensors."""
    tensors = {
        name: torch.cat([part.detach() for part in parts]) if len(parts) > 1 else parts[0].detach()
        for name, parts in public_names(twin).items()
    }
    shared = tensors["text.0.auto_model.shared.weight"]
    tensors["text.0.auto_model.encoder.embed_tokens.weight"] = shared
    path = tmp_path_factory.mktemp("public") / "clippy_5k.pt"
    state_dict = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"epoch": 5, "name": "clippy", "state_dict": state_dict}, path)
    return str(path)


def load_as(kind, public_file, spiece_folder, pooling, folder):
    """The same weights in a file of another kind, with the pooling written down where the kind can."""
    if kind == "public":
        return clippy_jax.load(public_file, tokenizer=str(spiece_folder))
    loaded = load_checkpoint(public_file)
    loaded = dataclasses.replace(
        loaded, config=dataclasses.replace(loaded.config, pooling=pooling), tokenizer=str(spiece_folder)
    )
    write = {".pt": write_clippy, ".safetensors": write_clippy_safetensors, "folder": write_converted_folder}[kind]
    path = str(folder / f"x{kind}")
    write(path, loaded)
    return clippy_jax.load(path, tokenizer=None if kind == "folder" else str(spiece_folder))


@pytest.mark.parametrize(
    "kind, pooling",
    [("public", "max_with_cls"), (".pt", "max"), (".safetensors", "max_with_cls"), ("folder", "max")],
)
def test_embeddings_are_those_of_pytorch(kind, pooling, twin, public_file, spiece_folder, tmp_path):
    model = load_as(kind, public_file, spiece_folder, pooling, tmp_path)
    assert model.config.pooling == pooling
    reference = random_twin(dataclasses.replace(twin.config, pooling=pooling))
    reference.load_state_dict(twin.state_dict())
    for height, width in ((224, 224), (160, 240)):
        images = np.random.default_rng(height).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
        with torch.no_grad():
            expected = reference.encode_image(torch.from_numpy(images))
        for ours, theirs in zip(model.encode_image(images), expected, strict=True):
            assert relative_error(ours, theirs) < 5e-5
    tokens = model.tokenizer.encode([text.strip() for text in TEXTS], 256)
    with torch.no_grad():
        expected = reference.encode_text(torch.from_numpy(tokens).long())
    assert relative_error(model.encode_text(TEXTS), expected) < 5e-5


@pytest.mark.parametrize("layout", ["2.2", "today"])
def test_texts_are_those_of_sentence_transformers(layout, spiece_folder, tmp_path):
    folder = tmp_path / "sentence-t5"
    if layout == "2.2":
        public_files.save_folder_22(folder, spiece_folder)
        theirs = public_files.SentenceTransformer(str(folder), device="cpu")
    else:
        theirs = public_files.save_folder_today(folder, spiece_folder)
    image = configurations.image_tower(width=48, heads=3, image_size=224)
    path = tmp_path / "dino.pth"
    torch.save(public_files.dino(), path)
    convert_main(["to-flax", f"--image={path}", f"--text={folder}", f"--output={tmp_path}/init"])
    model = clippy_jax.load(f"{tmp_path}/init")
    assert model.config.image.width == image.width
    assert model.tokenizer.longest_text == theirs.max_seq_length
    expected = theirs.encode(TEXTS, convert_to_numpy=True)
    assert relative_error(model.encode_text(TEXTS), expected) < 5e-5
    assert theirs.tokenize([TEXTS[-1]])["input_ids"].shape[1] == theirs.max_seq_length  # the last one is cut


def test_a_run_answers_the_same_in_every_form(spiece_folder, tmp_path):
    """At its own image size, which no weights tell, and with settings that differ from the public model's."""
    model = configurations.model(
        configurations.image_tower(width=48, heads=4, image_size=96, position_interpolation="plain"),
        configurations.text_tower(vocabulary_size=public_files.VOCABULARY),
        pooling="avg",
        precision="bfloat16",
    )
    config = tiny_config(model)
    save_run(tmp_path / "run", dataclasses.replace(config, input=dataclasses.replace(config.input, image_size=64)), [1])
    copy_tokenizer(str(spiece_folder), str(tmp_path / "run" / "tokenizer"))
    convert = [
        ("to-torch", "--checkpoint", "run", "x.pt"),
        ("to-torch", "--checkpoint", "x.pt", "x.safetensors", "--format=safetensors"),
        ("to-flax", "--clippy", "x.safetensors", "folder", f"--tokenizer={spiece_folder}"),
        ("to-torch", "--checkpoint", "folder", "y.pt", "--skip_optimizer"),
    ]
    for command, flag, source, output, *more in convert:
        convert_main([command, f"{flag}={tmp_path}/{source}", f"--output={tmp_path}/{output}", *more])
    of_run = clippy_jax.load(str(tmp_path / "run"))
    assert of_run.image_size == 64
    photos = [np.random.default_rng(i).integers(0, 256, (90 + i, 130, 3), dtype=np.uint8) for i in range(2)]
    images, texts = of_run.encode_image(photos), of_run.encode_text(TEXTS)
    assert images[0].shape == (2, 4, 4, 48)
    for _, _, _, output, *_ in convert:
        other = clippy_jax.load(str(tmp_path / output), tokenizer=str(spiece_folder))
        assert (other.config, other.image_size) == (of_run.config, 64), output
        for ours, theirs in zip(other.encode_image(photos), images, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=output)
        np.testing.assert_array_equal(other.encode_text(TEXTS), texts, err_msg=output)
    assert clippy_jax.load(str(tmp_path / "folder")).tokenizer.longest_text == of_run.tokenizer.longest_text


def test_takes_arrays_photos_and_paths(public_file, spiece_folder, tmp_path):
    model = clippy_jax.load(public_file, tokenizer=str(spiece_folder))
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    wide = np.random.default_rng(1).integers(0, 256, (230, 330, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "photo.png")
    of_array, _ = model.encode_image(pixels[None])
    assert of_array.shape == (1, 14, 14, 64)
    patches, pooled = model.encode_image([str(tmp_path / "photo.png"), PIL.Image.fromarray(pixels), pixels, wide])
    assert patches.shape == (4, 14, 14, 64) and pooled.shape == (4, 64)
    for row in range(3):
        np.testing.assert_allclose(patches[row], of_array[0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=-1), 1, atol=1e-6)
    assert model.segment(PIL.Image.fromarray(wide), ["a cat", "a dog"]).shape == (230, 330)
    parameters = sum(leaf.numel() for leaf in torch.load(public_file)["state_dict"].values())
    shared = public_files.VOCABULARY * model.config.text.width  # twice in the file
    assert f"{parameters - shared:,} parameters" in repr(model)


def test_texts_of_like_length_share_a_compilation(public_file, spiece_folder):
    model = clippy_jax.load(public_file, tokenizer=str(spiece_folder))
    model.encode_text(["zebra " * 9])
    compiled = inference_model._encode_text._cache_size()
    model.encode_text(["a zebra " * 5])
    assert inference_model._encode_text._cache_size() == compiled
    assert model.encode_text([]).shape == (0, 64)
