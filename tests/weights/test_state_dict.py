"""State dicts as people hold them: under other keys, in other wrappings, under transformers' names."""

import collections
import pathlib
import random

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

from clippy_jax.errors import InputError
from clippy_jax.weights.kinds import Kind
from clippy_jax.weights.load import from_clippy
from clippy_jax.weights.towers import read_weights
from tests.weights import public_files

DINO = public_files.dino()
CLIPPY = public_files.clippy(module="")["state_dict"]


def prefixed(prefix, tensors):
    return {prefix + key: value for key, value in tensors.items()}


def wrapped_inside(tensors):
    """As compiled, sharded and rematerialised modules name their parameters."""
    return {
        key.replace("blocks.", "blocks._orig_mod.")
        .replace(".mlp.", "._checkpoint_wrapped_module.mlp._fsdp_wrapped_module.")
        .replace("text.0.", "text._fsdp_wrapped_module.0.module."): value
        for key, value in tensors.items()
    }


def beside():
    """What training programs save beside the weights."""
    return {
        "epoch": 5,
        "best": np.float64(0.5),
        "history": np.arange(3.0),
        "rng": {"numpy": np.random.get_state(), "python": random.getstate(), "torch": torch.get_rng_state()},
        "metrics": collections.defaultdict(list, loss=[1.0]),
        "args": {"output": pathlib.Path("runs")},
    }


def training(student, teacher):
    return {**prefixed("student.", student), **prefixed("teacher.", teacher)}


OTHER = public_files.dino(seed=1)

FORMS = {
    "bare": lambda tensors: tensors,
    "data parallel": lambda tensors: prefixed("module.", tensors),
    "compiled": lambda tensors: prefixed("_orig_mod.", tensors),
    "compiled and data parallel": lambda tensors: prefixed("_orig_mod.module.", tensors),
    "data parallel and compiled": lambda tensors: prefixed("module._orig_mod.", tensors),
    "sharded": lambda tensors: prefixed("_fsdp_wrapped_module.", tensors),
    "wrapped inside": wrapped_inside,
    "lightning": lambda tensors: {"state_dict": prefixed("model.", tensors), "hyper_parameters": {"lr": 0.1}},
    "lightning compiled": lambda tensors: {"state_dict": prefixed("model._orig_mod.", tensors)},
    "model": lambda tensors: {"model": tensors, **beside()},
    "state_dict": lambda tensors: {**beside(), "state_dict": prefixed("module.", tensors)},
    "state_dict_ema": lambda tensors: {"state_dict_ema": tensors, **beside()},
    "state_dict beside ema": lambda tensors: {
        "state_dict_ema": {key: value + 1 for key, value in tensors.items()},
        "state_dict": tensors,
    },
    "ordered": lambda tensors: {"state_dict": collections.OrderedDict(tensors)},
    "default": lambda tensors: {"state_dict": collections.defaultdict(list, tensors)},
    "parameters": lambda tensors: {key: torch.nn.Parameter(value) for key, value in tensors.items()},
    "arrays": lambda tensors: {key: value.numpy() for key, value in tensors.items()},
    "with more than tensors": lambda tensors: {**tensors, "_metadata": {"version": 1}, "steps": 4, "none": None},
}
DINO_FORMS = {
    "teacher": lambda tensors: {"teacher": prefixed("backbone.", tensors), "student": prefixed("backbone.", OTHER)},
    "flat teacher": lambda tensors: training(prefixed("backbone.", OTHER), prefixed("backbone.", tensors)),
    "flat teacher with heads": lambda tensors: training(
        {**prefixed("backbone.", OTHER), "head.mlp.0.weight": torch.zeros(8)},
        {**prefixed("backbone.", tensors), "head.mlp.0.weight": torch.zeros(8)},
    ),
    "teacher in a model": lambda tensors: {
        "model": training(prefixed("module.backbone.", OTHER), prefixed("module.backbone.", tensors)),
        **beside(),
    },
}


@pytest.mark.parametrize(
    "form, tensors",
    [(form, tensors) for form in FORMS for tensors in ("DINO", "CLIPPY")] + [(form, "DINO") for form in DINO_FORMS],
)
def test_every_wrapping_is_taken_off(tmp_path, form, tensors):
    expected = {"DINO": DINO, "CLIPPY": CLIPPY}[tensors]
    torch.save({**FORMS, **DINO_FORMS}[form](expected), tmp_path / "x.pt")
    weights = read_weights(str(tmp_path / "x.pt"))
    assert weights.kind == {"DINO": Kind.BACKBONE, "CLIPPY": Kind.CLIPPY}[tensors]
    assert weights.tensors.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(weights.tensors[key], value.numpy(), err_msg=key)
    weights.to_params()


def test_the_same_tensor_with_and_without_a_wrapper_is_refused(tmp_path):
    torch.save({**DINO, "module.cls_token": DINO["cls_token"]}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="twice"):
        read_weights(str(tmp_path / "x.pt"))


def transformers_vit(tensors, prefix=""):
    """DINO's tensors under the names of the published transformers folder, its pooler beside them."""
    renamed = {f"{prefix}pooler.dense.weight": torch.zeros(48, 48), f"{prefix}pooler.dense.bias": torch.zeros(48)}
    names = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
        "norm": "layernorm",
    }
    for key, value in tensors.items():
        start, _, rest = key.rpartition("blocks.")
        block, _, rest = rest.partition(".") if "blocks." in key else ("", "", key)
        start = f"{prefix}encoder.layer.{block}." if block else prefix
        name, _, end = rest.rpartition(".") if rest.endswith(("weight", "bias")) else (rest, "", "")
        if name == "attn.qkv":
            for part, piece in zip(("query", "key", "value"), value.chunk(3)):
                renamed[f"{start}attention.attention.{part}.{end}"] = piece.clone()
        else:
            renamed[start + names[name] + (f".{end}" if end else "")] = value
    return renamed


@pytest.mark.parametrize(
    "form", ["published folder", "saved folder", "parts", ".safetensors", ".bin", "prefixed", "modules"]
)
def test_dino_under_the_names_of_transformers(tmp_path, form):
    config = transformers.ViTConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=96, layer_norm_eps=1e-6
    )
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    path = tmp_path / "vit"
    # transformers itself reads the names that we write here, so that they are its own.
    path.mkdir()
    config.save_pretrained(path)
    safetensors.torch.save_file(transformers_vit(DINO), path / "model.safetensors", {"format": "pt"})
    model = transformers.ViTModel.from_pretrained(path, attn_implementation="eager").eval()
    match form:
        case "saved folder":
            path = tmp_path / "saved"
            model.save_pretrained(path)
        case "parts":
            path = tmp_path / "saved"
            model.save_pretrained(path, max_shard_size="100KB")
            assert (path / "model.safetensors.index.json").exists()
        case ".safetensors":
            path = path / "model.safetensors"
        case ".bin":
            path = tmp_path / "pytorch_model.bin"
            torch.save(transformers_vit(DINO), path)
        case "prefixed":
            path = tmp_path / "x.bin"
            torch.save({"classifier.weight": torch.zeros(9, 48), **transformers_vit(DINO, "vit.")}, path)
        case "modules":
            path = tmp_path / "x.bin"
            torch.save(model.state_dict(), path)
    weights = read_weights(str(path))
    assert weights.kind == Kind.BACKBONE
    assert weights.tensors.keys() == DINO.keys()
    for key, value in DINO.items():
        np.testing.assert_array_equal(weights.tensors[key], value.numpy(), err_msg=key)
    weights.to_params()


def test_a_lost_part_of_transformers_names_is_told(tmp_path):
    tensors = transformers_vit(DINO)
    del tensors["encoder.layer.1.attention.attention.key.bias"]
    torch.save(tensors, tmp_path / "x.bin")
    with pytest.raises(InputError, match="1 missing: blocks.1.attn.qkv.bias; 2 unexpected: blocks.1.attn.q.bias"):
        read_weights(str(tmp_path / "x.bin")).to_params()


def test_a_long_list_of_wrong_keys_shows_a_dozen_and_a_count(tmp_path):
    tensors = {**CLIPPY, **{f"visual.extra.{i}": torch.zeros(2) for i in range(40)}}
    for key in [key for key in tensors if ".mlp.fc1." in key]:
        del tensors[key]
    torch.save(tensors, tmp_path / "x.pt")
    with pytest.raises(InputError) as error:
        from_clippy(str(tmp_path / "x.pt"), "--clippy")
    assert "6 missing: visual.trunk.blocks.0.mlp.fc1.weight" in str(error.value)
    assert str(error.value).endswith("visual.extra.10, visual.extra.11 and 28 more")
