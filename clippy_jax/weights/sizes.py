"""The sizes of a model, read off the shapes of its parameters (`rules.flax_shapes`)."""

import math
from collections.abc import Mapping
from typing import Any

from clippy_jax.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from clippy_jax.errors import InputError
from clippy_jax.models import vit


def image_sizes(shapes: Mapping[str, Any], source: str) -> ImageTowerConfig:
    """The ViT that has these parameters, with what its family has beside them (`vit.FAMILIES`).

    Weights do not tell the number of heads: it is that of the published ViT of the same widths, or one per 64 features.
    Those with rotary positions do not tell the size of their images: it is taken for 224 pixels.

    Raises:
      KeyError, ValueError: a parameter that tells a size is missing or has not as many dimensions as it should.
      InputError: the number of heads cannot be told.
    """
    values, width = shapes["patch_embedding"]["kernel"]
    patch_size = round((values / 3) ** 0.5)
    blocks, registers = shapes["blocks"], 0
    if "register_tokens" in shapes:
        _, registers, _ = shapes["register_tokens"]
    if "query_value" in blocks:
        family, grid = "dinov3", 224 // patch_size
    else:
        _, positions, _ = shapes["position_embedding"]
        grid = math.isqrt(positions)
        family = "dino" if "layer_scale1" not in blocks else "dinov2 with registers" if registers else "dinov2"
        family = "siglip" if "map_head" in shapes else family
    depth, mlp_width, _ = blocks["mlp_out"]["kernel"]
    published = {(size["width"], size["mlp_width"]): size["heads"] for size in vit.SIZES.values()}
    published = {wide: heads for (wide, _), heads in published.items()} | published
    heads = published.get((width, mlp_width), published.get(width, max(1, width // 64)))
    if width % heads:
        raise InputError(f"{source} has {width} features a token, from which the number of heads cannot be told")
    return ImageTowerConfig(
        **vit.FAMILIES[family]
        | dict(
            registers=registers,
            layer_scale="layer_scale1" in blocks,
            gated_mlp=blocks["mlp_in"]["kernel"][2] != mlp_width,
        ),
        patch_size=patch_size,
        image_size=max(1, grid) * patch_size,
        width=width,
        depth=depth,
        heads=heads,
        mlp_width=mlp_width,
        patch_dropout=0.0,
    )


def text_sizes(shapes: Mapping[str, Any], source: str) -> TextTowerConfig:
    """The Sentence-T5 that has these parameters, with T5's largest distance (128) and dropout (0.1).

    Raises:
      KeyError, ValueError: a parameter that tells a size is missing or has not as many dimensions as it should.
      InputError: the number of heads makes no sense.
    """
    vocabulary_size, width = shapes["token_embedding"]["embedding"]
    buckets, heads = shapes["relative_position_bias"]["embedding"]
    depth, _, all_heads = shapes["blocks"]["query"]["kernel"]
    _, _, mlp_width = shapes["blocks"]["mlp_in"]["kernel"]
    _, embedding_width = shapes["dense"]["kernel"]
    if all_heads % heads:
        raise InputError(f"{source} has {heads} attention heads, which its {all_heads} query features do not fit")
    return TextTowerConfig(
        vocabulary_size=vocabulary_size,
        width=width,
        depth=depth,
        heads=heads,
        head_width=all_heads // heads,
        mlp_width=mlp_width,
        gated_mlp="mlp_gate" in shapes["blocks"],
        relative_buckets=buckets,
        relative_max_distance=128,
        embedding_width=embedding_width,
        dropout=0.1,
    )


def clippy_sizes(shapes: Mapping[str, Any], source: str) -> ModelConfig:
    """The CLIPpy that has these parameters; errors as of its towers."""
    image, text = image_sizes(shapes["image"], source), text_sizes(shapes["text"], source)
    return join_towers(image, text, "image_projection" in shapes)


def join_towers(image: ImageTowerConfig, text: TextTowerConfig, image_projection: bool) -> ModelConfig:
    """CLIPpy with public pooling (the maximum over all tokens, CLS included) in float32."""
    return ModelConfig(
        image=image,
        text=text,
        pooling="max_with_cls",
        image_projection=image_projection,
        precision="float32",
        rematerialise=False,
    )
