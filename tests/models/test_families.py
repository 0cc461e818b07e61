"""DINOv2, DINOv3 and SigLIP, read from the files of `transformers` and computed, beside `transformers` itself."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from clippy_jax.models import vit
from clippy_jax.models.clippy import CLIPpy, normalise_pixels
from clippy_jax.models.precision import precision_of
from clippy_jax.models.rotary_embedding import rotate, rotation
from clippy_jax.models.vit import VisionTransformer
from clippy_jax.weights.towers import read_weights
from tests.models import configurations
from tests.models.backbones import BACKBONES, random_backbone
from tests.models.test_vit import random_images
from tests.models.torch_twin import relative_error


def read(model, folder):
    """What our reader makes of a backbone's state dict: parameters and configuration."""
    torch.save(model.state_dict(), folder / "backbone.pth")
    weights = read_weights(str(folder / "backbone.pth"))
    return weights.to_params()[0], weights.config


def pixels_of(images, statistics):
    return torch.tensor(np.array(normalise_pixels(images, statistics))).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", BACKBONES)
def test_tokens_and_attention_equal_transformers(name, tmp_path):
    model = random_backbone(name)
    params, config = read(model, tmp_path)
    family = vit.FAMILIES[name.removesuffix(" gated")]
    assert dataclasses.asdict(config).items() >= {**family, "gated_mlp": "gated" in name}.items()
    if family["position_interpolation"] == "dino":
        # The original's, which transformers does not do; `test_position_embedding.py` has it beside PyTorch's.
        config = dataclasses.replace(config, position_interpolation="plain")
    module = VisionTransformer(config, precision_of("float32"))

    @jax.jit
    def encode(params, images):
        pixels = normalise_pixels(images, config.pixel_statistics)
        return module.apply({"params": params}, pixels, return_attention=True)

    for grid in [(4, 4)] if "gated" in name else [(4, 4), (6, 6), (3, 5)]:
        images = random_images(2, *(config.patch_size * side for side in grid))
        ours = encode(params, images)
        more = {"interpolate_pos_encoding": True} if config.map_head else {}
        with torch.no_grad():
            theirs = model(pixels_of(images, config.pixel_statistics), output_attentions=True, **more)
        tokens = theirs.last_hidden_state
        assert relative_error(ours.patches, tokens[:, config.special_tokens :].unflatten(1, grid)) <= 1e-5
        if config.map_head:
            with torch.no_grad():
                _, mean_over_heads = model.head.attention(model.head.probe.expand(2, -1, -1), tokens, tokens)
            assert relative_error(ours.cls, theirs.pooler_output) <= 1e-5
            assert relative_error(ours.attention.mean(axis=1), mean_over_heads) <= 1e-5
        else:
            assert relative_error(ours.cls, tokens[:, 0]) <= 1e-5
            assert relative_error(ours.attention, theirs.attentions[-1]) <= 1e-5


@pytest.mark.parametrize(
    "size, family, fields",
    [
        ("S/14", "dinov2", dict(mlp_ratio=4)),
        ("B/14", "dinov2 with registers", dict(mlp_ratio=4)),
        ("L/14", "dinov2", dict(mlp_ratio=4)),
        ("g/14", "dinov2", dict(mlp_ratio=4, use_swiglu_ffn=True)),
        ("B/16", "dinov3", dict(intermediate_size=3072)),
        ("L/16", "dinov3", dict(intermediate_size=4096)),
        ("B/16", "siglip", dict(intermediate_size=3072, patch_size=16)),
        ("So400m/14", "siglip", dict(intermediate_size=4304, patch_size=14)),
        ("gopt/16", "siglip", dict(intermediate_size=6144, patch_size=16)),
    ],
)
def test_published_sizes_have_as_many_parameters_as_in_transformers(size, family, fields):
    sizes = vit.SIZES[size]
    image_size = 518 if size.endswith("14") else 224
    with torch.device("meta"):
        theirs = BACKBONES[family](
            hidden_size=sizes["width"],
            num_hidden_layers=sizes["depth"],
            num_attention_heads=sizes["heads"],
            image_size=image_size,
            **fields,
        )
    expected = sum(parameter.numel() for name, parameter in theirs.named_parameters() if "mask_token" not in name)
    config = configurations.image_tower(**{**sizes, **vit.FAMILIES[family], "image_size": image_size})
    pixels = jnp.zeros((1, config.patch_size, config.patch_size, 3))
    ours = jax.eval_shape(VisionTransformer(config, precision_of("float32")).init, jax.random.key(0), pixels)
    assert sum(leaf.size for leaf in jax.tree.leaves(ours)) == expected


def test_pixels_are_normalised_by_the_towers_statistics():
    """A tower that was trained with ImageNet's sees other pixels than with CLIP's: the difference is not small."""
    images = random_images(1, 32, 32)
    configs = [configurations.model(configurations.image_tower(pixel_statistics=name)) for name in ("clip", "imagenet")]
    params = jax.jit(CLIPpy(configs[0]).init)(jax.random.key(0), images, jnp.ones((1, 2), jnp.int32))["params"]
    clip, imagenet = (CLIPpy(config).apply({"params": params}, images, method="encode_image")[0] for config in configs)
    assert float(jnp.abs(clip - imagenet).max()) > 1e-3
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    np.testing.assert_allclose(normalise_pixels(images, "imagenet"), (images / 255 - mean) / std, atol=1e-5)


def test_rotary_positions_follow_the_patches_that_are_kept():
    """The angles of dropped patches go with them: a tower of one block whose patches are all alike tells them apart by
    their places alone."""
    config = configurations.image_tower(
        **vit.FAMILIES["dinov3"] | dict(image_size=64, depth=1, heads=3, patch_dropout=0.5)
    )
    module = VisionTransformer(config, precision_of("float32"))
    images = jnp.ones((1, 64, 64, 3))
    params = module.init(jax.random.key(0), images)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)
    everything = rotation((4, 4), 16)
    query = jax.random.normal(jax.random.key(1), (1, 5, 1, 16))
    kept = np.array([0, 3, 7, 12])
    turned = rotate(query, jnp.asarray(everything[kept])[None])
    np.testing.assert_array_equal(turned[:, :1], query[:, :1])
    for token, place in enumerate(kept, start=1):
        alone = rotate(query[:, token : token + 1], jnp.asarray(everything[place])[None, None])
        np.testing.assert_allclose(turned[:, token], alone[:, 0], atol=1e-6)
    tokens = [
        module.apply({"params": params}, images, train=True, rngs={"dropout": jax.random.key(key)}) for key in (0, 1)
    ]
    assert tokens[0].patches.shape == (1, 1, 8, 48)
    assert float(jnp.abs(tokens[0].patches - tokens[1].patches).max()) > 1e-4
