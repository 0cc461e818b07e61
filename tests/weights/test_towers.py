"""What the files are, and their sizes, found out from the files."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch

from clippy_jax.config import ImageTowerConfig
from clippy_jax.errors import InputError
from clippy_jax.weights.load import from_clippy, from_towers
from clippy_jax.weights.towers import read_weights
from tests.models import configurations
from tests.weights import public_files


def save(tmp_path, contents, name="x.pth"):
    torch.save(contents, tmp_path / name)
    return str(tmp_path / name)


def assert_same_tensors(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value, err_msg=key)


@pytest.mark.parametrize("width, heads, patch", [(384, 6, 16), (384, 6, 8), (768, 12, 16), (768, 12, 8)])
def test_sizes_of_the_dino_backbones(tmp_path, width, heads, patch):
    grid = 224 // patch
    tensors = public_files.dino(width, depth=2, mlp=4 * width, patch=patch, grid=grid)
    weights = read_weights(save(tmp_path, tensors))
    assert weights.config == ImageTowerConfig(
        patch_size=patch,
        image_size=224,
        width=width,
        depth=2,
        heads=heads,
        mlp_width=4 * width,
        position_interpolation="dino",
        patch_dropout=0.0,
    )


@pytest.mark.parametrize("network, seed", [("teacher", 0), ("student", 1)])
def test_a_dino_training_checkpoint(tmp_path, network, seed):
    weights = read_weights(save(tmp_path, public_files.dino_training()), network)
    assert weights.kind == "ViT backbone"
    assert_same_tensors(weights.tensors, public_files.dino(seed=seed))
    weights.to_params()


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("form", ["public", "without module", "bare", "sentence-transformers 6", "safetensors"])
def test_forms_of_a_clippy_checkpoint(tmp_path, form, gated):
    public = public_files.clippy(gated=gated)
    match form:
        case "public":
            path = save(tmp_path, public)
        case "without module":
            path = save(tmp_path, public_files.clippy(module="", gated=gated))
        case "bare":
            path = save(tmp_path, public["state_dict"])
        case "sentence-transformers 6":
            path = save(tmp_path, public_files.clippy(t5_name="model", gated=gated))
        case "safetensors":
            path = str(tmp_path / "x.safetensors")
            safetensors.torch.save_file({key: value.clone() for key, value in public["state_dict"].items()}, path)
    weights = read_weights(path)
    tensors = {key.removeprefix("module."): value for key, value in public["state_dict"].items()}
    assert_same_tensors(weights.tensors, tensors)
    assert weights.config == configurations.model(
        text=configurations.text_tower(vocabulary_size=public_files.VOCABULARY, gated_mlp=gated, dropout=0.1),
        pooling="max_with_cls",
    )
    assert (weights.epoch, weights.name) == ((0, "") if form in ("bare", "safetensors") else (5, "clippy"))
    weights.to_params()


def test_the_wrong_kind_is_named(dino_file, text_folder):
    with pytest.raises(InputError, match="--text: .*dino.pth is a ViT backbone; a Sentence-T5 folder is wanted, or a"):
        from_towers(dino_file, dino_file)
    with pytest.raises(InputError, match="--clippy: .* is a Sentence-T5 folder; a CLIPpy checkpoint is wanted"):
        from_clippy(text_folder, "--clippy")


@pytest.mark.parametrize(
    "contents, says",
    [
        ([torch.zeros(2)], "holds a list"),
        (torch.zeros(2), "holds a ndarray"),
        ({}, "holds no state dict"),
        ({"state_dict": 3}, "holds no state dict"),
        ({"a": "text", "b": 3}, "holds no state dict"),
        ({"conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}, "none of the weights known.*conv1, fc"),
    ],
)
def test_other_contents_are_refused(tmp_path, contents, says):
    with pytest.raises(InputError, match=says):
        read_weights(save(tmp_path, contents))


def break_tensors(tensors, prefix):
    """One key missing, one too many, one misshapen."""
    tensors = dict(tensors)
    del tensors[f"{prefix}norm.bias"]
    tensors["visual.extra" if prefix else "blocks.extra"] = torch.zeros(3)
    tensors[f"{prefix}blocks.1.attn.proj.bias"] = torch.zeros(47)
    return tensors


@pytest.mark.parametrize("form", ["dino", "dino training", "clippy", "clippy safetensors"])
def test_wrong_keys_are_refused_with_the_whole_list(tmp_path, form):
    tensors = break_tensors(public_files.dino(), "")
    prefix = ""
    match form:
        case "dino":
            path = save(tmp_path, tensors)
        case "dino training":
            path = save(tmp_path, {"teacher": {f"backbone.{key}": value for key, value in tensors.items()}})
        case _:
            prefix = "visual.trunk."
            tensors = break_tensors(public_files.clippy(module="")["state_dict"], prefix)
            path = save(tmp_path, {"state_dict": tensors})
            if form == "clippy safetensors":
                path = str(tmp_path / "x.safetensors")
                safetensors.torch.save_file({key: value.clone() for key, value in tensors.items()}, path)
    with pytest.raises(InputError) as error:
        read_weights(path).to_params()
    assert str(error.value) == (
        f"{path} does not fit the model: 1 missing: {prefix}norm.bias; "
        f"1 unexpected: {'visual' if prefix else 'blocks'}.extra; "
        f"1 misshapen: {prefix}blocks.1.attn.proj.bias is [47] instead of [48]"
    )


@pytest.mark.parametrize("lost", ["patch_embed.proj.weight", "pos_embed"])
def test_a_lost_tensor_that_tells_a_size_is_named_like_any_other(tmp_path, lost):
    tensors = public_files.clippy()["state_dict"]
    del tensors[f"module.visual.trunk.{lost}"], tensors["module.text.2.linear.weight"]
    with pytest.raises(InputError, match=f"2 missing: visual.trunk.{lost}, text.2.linear.weight"):
        read_weights(save(tmp_path, tensors))


def test_partial_weights_on_request(tmp_path):
    tensors = break_tensors(public_files.dino(), "")
    weights = read_weights(save(tmp_path, tensors))
    params, wrong = weights.to_params(allow_partial=True)
    assert wrong.left == ["norm.bias", "blocks.1.attn.proj.bias"]
    assert wrong.unexpected == ("blocks.extra",)
    assert not params["norm"]["bias"].any() and not params["blocks"]["projection"]["bias"][1].any()
    for layer in (0, 2):
        np.testing.assert_array_equal(
            params["blocks"]["projection"]["bias"][layer], tensors[f"blocks.{layer}.attn.proj.bias"]
        )
    np.testing.assert_array_equal(params["norm"]["scale"], tensors["norm.weight"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    tensors = public_files.dino()
    tensors["pos_embed"][0, 3, 5] = value
    tensors["norm.weight"].fill_(value)
    with pytest.raises(InputError, match="NaN or infinite values in 2 tensors: pos_embed, norm.weight"):
        read_weights(save(tmp_path, tensors)).to_params()


def test_quantised_weights_are_refused(tmp_path):
    tensors = public_files.dino()
    tensors["blocks.0.mlp.fc1.weight"] = torch.zeros(96, 48, dtype=torch.int8)
    with pytest.raises(InputError, match="other than floating-point numbers in blocks.0.mlp.fc1.weight"):
        read_weights(save(tmp_path, tensors)).to_params()


def test_sizes_that_make_no_model_are_refused(tmp_path):
    contents = public_files.clippy()
    with pytest.raises(InputError, match="x.pth does not describe a model: model.pooling is missing"):
        read_weights(save(tmp_path, {**contents, "model_config": {"image": {}, "text": {}}}))
    contents["epoch"] = "soon"
    with pytest.raises(InputError, match="its epoch is 'soon'"):
        read_weights(save(tmp_path, contents))


def test_a_folder_that_is_something_else(tmp_path, text_folder):
    with pytest.raises(InputError, match="is a folder of something else"):
        read_weights(str(tmp_path))
    folder = pathlib.Path(shutil.copytree(text_folder, tmp_path / "copy"))
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:2]))
    with pytest.raises(InputError, match="is made of Transformer, Pooling; a Sentence-T5 is made of"):
        read_weights(str(folder))
    for content in ("{", "[1]", "{}", '[{"type": "x.Transformer"}]'):
        (folder / "modules.json").write_text(content)
        with pytest.raises(InputError, match="copy"):
            read_weights(str(folder))
