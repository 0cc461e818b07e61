"""The ONNX towers in onnxruntime, beside the model in JAX."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from clippy_jax.config import ModelConfig
from clippy_jax.models import vit
from clippy_jax.models.clippy import CLIPpy
from tests.export.conftest import random_params
from tests.models import configurations

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

from clippy_jax.export.onnx_image_tower import image_tower  # noqa: E402
from clippy_jax.export.onnx_text_tower import text_tower  # noqa: E402

TOLERANCE = 1e-5


def session(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@functools.partial(jax.jit, static_argnums=(0, 3))
def apply(config: ModelConfig, params, batch, method):
    return CLIPpy(config).apply({"params": params}, batch, method=method)


# The grid of the table; one side of it; both larger; a single patch.
SIZES = ((3, 64, 64), (1, 64, 96), (2, 112, 80), (2, 16, 16))


@pytest.mark.parametrize(
    "pooling, family, image_projection, sizes",
    [
        ("max", "dino", False, SIZES),
        ("max_with_cls", "siglip", True, SIZES),
        ("avg", "dino", False, SIZES[:1]),
        ("cls", "dinov3", True, SIZES),
        ("cls_and_avg", "dinov2 with registers", True, SIZES),
    ],
)
def test_image_tower_embeds_any_number_of_images_of_any_size(pooling, family, image_projection, sizes):
    tower = configurations.image_tower(**{"image_size": 64, **vit.FAMILIES[family]})
    tower = dataclasses.replace(tower, gated_mlp="registers" in family)
    width = (40 if image_projection else 48) * (2 if pooling == "cls_and_avg" else 1)
    text = configurations.text_tower(embedding_width=width)
    config = configurations.model(tower, text, pooling=pooling, image_projection=image_projection)
    params = random_params(config)
    exported = session(image_tower(params, config))
    for batch, height, width in sizes:
        images = np.random.default_rng(height).integers(0, 256, (batch, height, width, 3), np.uint8)
        patches, pooled = exported.run(None, {"images": images})
        expected_patches, expected_pooled = apply(config, params, images, "encode_image")
        np.testing.assert_allclose(patches, expected_patches, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(pooled, expected_pooled, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("gated", [False, True])
def test_text_tower_embeds_any_number_of_texts_of_any_length(gated):
    tower = configurations.text_tower(gated_mlp=gated, embedding_width=48, relative_max_distance=40)
    config = configurations.model(text=tower)
    params = random_params(config)
    exported = session(text_tower(params["text"], tower))
    for texts, length in ((3, 9), (1, 1), (2, 100)):
        tokens = np.random.default_rng(length).integers(2, 100, (texts, length))
        for row, count in zip(tokens, (length, length // 2, 1)):
            row[count:] = 0
        (embedding,) = exported.run(None, {"token_ids": tokens})
        expected = apply(config, params, tokens, "encode_text")
        np.testing.assert_allclose(embedding, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_every_parameter_counts(tower):
    """The same change of a parameter gives the same change of the embedding, in ONNX as in JAX."""
    config = configurations.model(
        configurations.image_tower(image_size=32, depth=2),
        configurations.text_tower(gated_mlp=True, embedding_width=40),
        pooling="max_with_cls",
        image_projection=True,
    )
    params, random = random_params(config), np.random.default_rng(1)
    if tower == "text":
        method, batch, name = "encode_text", random.integers(2, 100, (2, 12)), "token_ids"
    else:
        method, batch, name = "encode_image", random.integers(0, 256, (1, 48, 32, 3), np.uint8), "images"
    before = jax.tree.leaves(apply(config, params, batch, method))[0]
    flat = flatten_dict(params, sep="/")
    for path, value in flat.items():
        if path.startswith("text/") != (tower == "text") or path == "logit_scale":
            continue
        changed = value * 1.5 + 0.1 * random.normal(size=value.shape).astype(np.float32)
        changed = unflatten_dict({**flat, path: changed}, sep="/")
        expected = jax.tree.leaves(apply(config, changed, batch, method))[0]
        exported = text_tower(changed["text"], config.text) if tower == "text" else image_tower(changed, config)
        assert np.abs(expected - before).max() > 100 * TOLERANCE, path
        result = session(exported).run(None, {name: batch})[0]
        np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE, err_msg=path)
