"""The sizes of a model, read off the shapes of its tensors."""

from collections.abc import Mapping

import numpy as np

from clippy_jax.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from clippy_jax.errors import InputError
from clippy_jax.models import vit
from clippy_jax.weights.rules import Rule, depths_of_tensors, differences
from clippy_jax.weights.tables import IMAGE_RULES, clippy_rules, text_rules


def image_sizes(tensors: Mapping[str, np.ndarray], source: str) -> ImageTowerConfig:
    """The ViT whose DINO state dict this is.

    Weights do not tell the number of heads: it is that of DINO's ViT of the same width, or one per 64 features.

    Raises:
      InputError: a tensor that tells a size is missing.
    """
    shape = _Shapes(tensors, IMAGE_RULES, source)
    width, _, patch_size, _ = shape("patch_embed.proj.weight", 4)
    _, positions, _ = shape("pos_embed", 3)
    heads = {size["width"]: size["heads"] for size in vit.SIZES.values()}.get(width, max(1, width // 64))
    if width % heads:
        raise InputError(f"{source} has {width} features a token, from which the number of heads cannot be told")
    return ImageTowerConfig(
        patch_size=patch_size,
        image_size=max(1, round((positions - 1) ** 0.5)) * patch_size,
        width=width,
        depth=shape.depth,
        heads=heads,
        mlp_width=shape("blocks.0.mlp.fc1.weight", 2)[0],
        position_interpolation="dino",
        patch_dropout=0.0,
    )


def text_sizes(tensors: Mapping[str, np.ndarray], source: str) -> TextTowerConfig:
    """The Sentence-T5 whose state dict this is, with T5's largest distance (128) and dropout (0.1).

    Raises:
      InputError: a tensor that tells a size is missing.
    """
    block = "encoder.block.0.layer"
    gated = is_gated(tensors)
    shape = _Shapes(tensors, text_rules(gated), source)
    embedding = "shared.weight" if "shared.weight" in tensors else "encoder.embed_tokens.weight"
    vocabulary_size, width = shape(embedding, 2)
    buckets, heads = shape(f"{block}.0.SelfAttention.relative_attention_bias.weight", 2)
    all_heads, _ = shape(f"{block}.0.SelfAttention.q.weight", 2)
    if not heads or all_heads % heads:
        raise InputError(f"{source} has {heads} attention heads, which its {all_heads} query features do not fit")
    return TextTowerConfig(
        vocabulary_size=vocabulary_size,
        width=width,
        depth=shape.depth,
        heads=heads,
        head_width=all_heads // heads,
        mlp_width=shape(f"{block}.1.DenseReluDense.wi{'_0' if gated else ''}.weight", 2)[0],
        gated_mlp=gated,
        relative_buckets=buckets,
        relative_max_distance=128,
        embedding_width=shape("linear.weight", 2)[0],
        dropout=0.1,
    )


def clippy_sizes(tensors: Mapping[str, np.ndarray], source: str) -> ModelConfig:
    """The CLIPpy whose state dict this is, pooling as the public code trains and evaluates it.

    Raises:
      InputError: a tensor that tells a size is missing.
    """
    image, text = (
        {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        for prefix in ("visual.trunk.", "text.0.auto_model.")
    )
    if "text.2.linear.weight" in tensors:
        text["linear.weight"] = tensors["text.2.linear.weight"]
    try:
        image, text = image_sizes(image, source), text_sizes(text, source)
    except InputError:
        # Said again for the whole file, under its own keys.
        wrong = differences(tensors, clippy_rules(is_gated(tensors), has_projection(tensors)), source=source)
        if wrong:
            raise InputError(f"{source} does not fit the model: {wrong}") from None
        raise
    return join_towers(image, text, has_projection(tensors))


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


def is_gated(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether a T5's MLP has a gate."""
    return any("DenseReluDense.wi_0" in key for key in tensors)


def has_projection(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether a CLIPpy maps its image embeddings to the text tower's width."""
    return "visual.head.proj.weight" in tensors


class _Shapes:
    """Looks up shapes; where one is not to be had, says all that is wrong with the keys."""

    def __init__(self, tensors: Mapping[str, np.ndarray], rules: tuple[Rule, ...], source: str):
        self._tensors, self._rules, self._source = tensors, rules, source
        (self.depth,) = depths_of_tensors(tensors, rules).values()

    def __call__(self, key: str, rank: int) -> tuple[int, ...]:
        if key not in self._tensors:
            wrong = differences(self._tensors, self._rules, source=self._source)
            raise InputError(f"{self._source} does not fit the model: {wrong}")
        shape = self._tensors[key].shape
        if len(shape) != rank or 0 in shape:
            raise InputError(f"{self._source} does not fit the model: {key} is {list(shape)}, not of {rank} dimensions")
        return shape
