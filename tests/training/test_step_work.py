"""The formula beside the products that JAX's program of the step has."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

from clippy_jax.config import parse_model
from clippy_jax.models import t5, vit
from clippy_jax.models.clippy import CLIPpy
from clippy_jax.models.packed_texts import TEXTS_PER_ROW, PackedTexts
from clippy_jax.training.state import init_params
from clippy_jax.training.step_work import image_flops, step_work
from tools.benchmarks.matmul_flops import matmul_flops

PAIRS, ROWS, LENGTH, SIZE = 4, 3, 10, 64


def model(patch_dropout=0.0, gated=False, **image):
    """Two towers whose widths differ, so that a factor that is mistaken for another shows."""
    return parse_model(
        {
            "image": {
                **vit.SIZES["Ti/16"], "image_size": SIZE, "position_interpolation": "dino",
                "patch_dropout": patch_dropout, "gated_mlp": gated, **image,
            },
            "text": {
                "vocabulary_size": 50, "gated_mlp": gated, "relative_buckets": 32, "relative_max_distance": 128,
                "dropout": 0.0, **t5.SIZES["tiny"], "head_width": 12, "embedding_width": 80,
            },
            "pooling": "max", "image_projection": True, "precision": "float32", "rematerialise": False,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"patch_dropout": 0.8},
        {"gated": True},
        {"registers": 4, "positions": "rotary"},
        {"map_head": True, "patch_dropout": 0.5},
    ],
)
def test_the_forward_pass_has_the_products_of_the_formula(fields):
    config = model(**fields)
    images = jax.ShapeDtypeStruct((PAIRS, SIZE, SIZE, 3), jnp.uint8)
    ids = jax.ShapeDtypeStruct((1, ROWS, LENGTH), jnp.int32)
    texts = PackedTexts(ids, ids, jax.ShapeDtypeStruct((1, PAIRS), jnp.int32))
    params = jax.eval_shape(lambda key: init_params(config, SIZE, key), jax.random.key(0))

    def forward(method, inputs):
        def apply(params, inputs):
            rngs = {"dropout": jax.random.key(0)}
            return CLIPpy(config).apply({"params": params}, inputs, train=True, rngs=rngs, method=method)

        return matmul_flops(apply, params, inputs)

    # Products that the formula leaves out: words are averaged, segments without a text are mapped, too.
    width, segments = config.text.width, ROWS * TEXTS_PER_ROW
    image = forward("encode_image", images) - config.image.map_head * 2 * config.image.width**2
    text = forward("encode_packed_texts", texts) - 2 * segments * LENGTH * width
    text -= 2 * (segments - PAIRS) * width * config.text.embedding_width
    loss = 2 * PAIRS**2 * config.text.embedding_width
    kept = math.floor(16 * (1 - config.image.patch_dropout))
    projection = 2 * PAIRS * (1 + kept) * config.image.width * config.token_width
    for freeze, times in (((), (3, 3)), (("image",), (1, 3)), (("text",), (3, 1))):
        work = step_work(config, freeze, SIZE, PAIRS, ROWS, LENGTH)
        learns = projection if "image" in freeze else 0  # the gradient of its weights
        assert work.flops == times[0] * image + learns + times[1] * text + 3 * loss
    assert work.tokens == PAIRS * (config.image.special_tokens + kept) + ROWS * LENGTH
    from_features = step_work(config, ("image",), SIZE, PAIRS, ROWS, LENGTH, feature_tokens=1 + kept)
    assert from_features == (2 * projection + 3 * text + 3 * loss, PAIRS * (1 + kept) + ROWS * LENGTH)


def test_an_image_through_a_b16_takes_the_billions_of_multiplications_that_timm_lists():
    config = model(**vit.SIZES["B/16"])
    assert image_flops(dataclasses.replace(config, image_projection=False), 196, 196) / 2e9 == pytest.approx(
        17.58, rel=2e-3
    )
