"""The names of image towers: those of transformers, as published and of today, and those of the originals."""

import dataclasses
import re

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

from clippy_jax.errors import InputError
from clippy_jax.weights.checkpoint import Checkpoint
from clippy_jax.weights.clippy_file import write_clippy, write_clippy_safetensors, write_dino
from clippy_jax.weights.image_names import original_tensors
from clippy_jax.weights.load import from_clippy, initialise
from clippy_jax.weights.rules import to_torch
from clippy_jax.weights.sizes import join_towers
from clippy_jax.weights.towers import initial_params, parameter_shapes, read_weights
from tests.models import configurations
from tests.models.backbones import BACKBONES, random_backbone

# What each block of an original has, beside `norm1`, `norm2` and `attn.proj`, which all have.
LINEAR = ("weight", "bias")
BLOCKS = {
    "dinov2": ("attn.qkv.bias", "mlp.fc1", "mlp.fc2"),
    "dinov2 gated": ("attn.qkv.bias", "mlp.w12", "mlp.w3"),
    "dinov2 with registers": ("attn.qkv.bias", "mlp.fc1", "mlp.fc2"),
    "dinov3": ("attn.qkv.bias", "attn.qkv.bias_mask", "mlp.fc1", "mlp.fc2"),
    "dinov3 gated": ("attn.qkv.bias", "attn.qkv.bias_mask", "mlp.w1", "mlp.w2", "mlp.w3"),
}

# What timm's SigLIP has beside its blocks and the MLP of its head.
TIMM_SIGLIP = {f"{part}.{kind}" for part in ("patch_embed.proj", "norm") for kind in LINEAR} | {"pos_embed"}
TIMM_SIGLIP |= {f"attn_pool.{part}.{kind}" for part in ("q", "kv", "proj", "norm") for kind in LINEAR}
TIMM_SIGLIP |= {"attn_pool.latent"}


def original_keys(name):
    """The state dict of the original module, with two blocks."""
    keys = {"cls_token", "mask_token", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"}
    keys |= {"storage_tokens", "rope_embed.periods"} if "dinov3" in name else {"pos_embed"}
    keys |= {"register_tokens"} if "registers" in name else set()
    for i in range(2):
        block = {f"{part}.{kind}" for part in ("norm1", "norm2", "attn.proj") for kind in LINEAR}
        block |= {"ls1.gamma", "ls2.gamma", "attn.qkv.weight"}
        for part in BLOCKS[name]:
            block |= {f"{part}.{kind}" for kind in LINEAR} if part.startswith("mlp") else {part}
        keys |= {f"blocks.{i}.{part}" for part in block}
    return keys


def assert_same(ours, theirs):
    ours, theirs = (flatten_dict(tree, sep="/") for tree in (ours, theirs))
    assert ours.keys() == theirs.keys()
    for path, value in theirs.items():
        np.testing.assert_array_equal(ours[path], value, err_msg=path)


def a_clippy(params, config):
    """A whole CLIPpy around an image tower."""
    model = join_towers(config, configurations.text_tower(), image_projection=False)
    rest = [path for path in flatten_dict(parameter_shapes(model), sep="/") if not path.startswith("image/")]
    others = unflatten_dict(initial_params(model, rest), sep="/")
    return Checkpoint({**others, "image": params}, model, config.image_size)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_form_of_a_backbone_gives_the_same_and_goes_back_bit_for_bit(name, tmp_path):
    model = random_backbone(name)
    torch.save(model.state_dict(), tmp_path / "today.pth")
    weights = read_weights(str(tmp_path / "today.pth"))
    params, _ = weights.to_params()

    model.save_pretrained(tmp_path / "published")  # transformers writes the names of the hub
    published = read_weights(str(tmp_path / "published"))
    assert published.config == weights.config
    assert_same(published.to_params()[0], params)

    checkpoint = a_clippy(params, weights.config)
    write_dino(str(tmp_path / "original.pth"), checkpoint)
    tensors = torch.load(tmp_path / "original.pth", weights_only=True)
    if name == "siglip":  # whose original is no PyTorch
        theirs = model.state_dict()
        assert tensors.keys() == theirs.keys() and all(torch.equal(tensors[key], theirs[key]) for key in theirs)
        of_timm = {key: torch.tensor(value) for key, value in to_torch(params, weights.rules).items()}
        assert {key for key in of_timm if "attn_pool.mlp" not in key and "blocks" not in key} == TIMM_SIGLIP
        torch.save(of_timm, tmp_path / "timm.pth")
        assert_same(read_weights(str(tmp_path / "timm.pth")).to_params()[0], params)
    else:
        assert tensors.keys() == original_keys(name)
    original = read_weights(str(tmp_path / "original.pth"))
    assert original.config == weights.config
    assert_same(original.to_params()[0], params)

    for write, path in ((write_clippy, "clippy.pt"), (write_clippy_safetensors, "clippy.safetensors")):
        write(str(tmp_path / path), checkpoint)
        back, notes = from_clippy(str(tmp_path / path), "--clippy")
        assert back.config == checkpoint.config and not notes
        assert_same(back.params, jax.tree.map(np.asarray, checkpoint.params))


def test_blocks_in_groups_are_counted_through(tmp_path):
    """As DINOv2's training saves them: group 1 begins with block 1, and there is a head."""
    weights = read_weights(saved(tmp_path, "dinov2"))
    params, config = weights.to_params()[0], weights.config
    grouped = {
        "backbone." + re.sub(r"^blocks\.(\d+)", r"blocks.\1.\1", key): torch.tensor(value)
        for key, value in original_tensors(params, config).items()
    }
    torch.save({"teacher": {**grouped, "dino_head.mlp.0.weight": torch.zeros(3)}}, tmp_path / "training.pth")
    weights = read_weights(str(tmp_path / "training.pth"))
    assert weights.config == config
    assert_same(weights.to_params()[0], params)


def test_rotary_positions_that_we_do_not_compute_are_refused(tmp_path):
    weights = read_weights(saved(tmp_path, "dinov3"))
    tensors = original_tensors(weights.to_params()[0], weights.config)
    longer = tensors | {"rope_embed.periods": tensors["rope_embed.periods"] * 2}
    biased = tensors | {"blocks.1.attn.qkv.bias": np.ones(144, np.float32)}
    del biased["blocks.1.attn.qkv.bias_mask"]
    for changed, says in ((longer, "of other wavelengths"), (biased, "biases on its keys .blocks.1.attn.qkv.bias")):
        torch.save({key: torch.tensor(value) for key, value in changed.items()}, tmp_path / "other.pth")
        with pytest.raises(InputError, match=f"other.pth has rotary positions.*{says}"):
            read_weights(str(tmp_path / "other.pth"))


def test_a_run_starts_from_a_backbone_and_a_text_tower_with_another_head(tmp_path, text_folder):
    path = saved(tmp_path, "dinov2 with registers")
    image = read_weights(path).config
    text = dataclasses.replace(read_weights(text_folder).config, embedding_width=2 * image.width)
    config = dataclasses.replace(join_towers(image, text, image_projection=False), pooling="cls_and_avg")
    fresh = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), parameter_shapes(config))
    params, left = initialise(fresh, config, path, text_folder)
    assert sorted(left) == ["logit_scale", "text/dense/kernel"]
    assert_same(params["image"], read_weights(path).to_params()[0])
    with pytest.raises(InputError, match="config.model.image.registers is 0, but 4 there"):
        initialise(fresh, dataclasses.replace(config, image=dataclasses.replace(image, registers=0)), path)


def saved(folder, name):
    path = folder / "backbone.pth"
    torch.save(random_backbone(name).state_dict(), path)
    return str(path)
