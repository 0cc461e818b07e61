"""The conversion tables: torch key ↔ parameter path ↔ transform, in the order of the PyTorch modules.

The names on the left are those of DINO's `vision_transformer.py`, of a sentence-transformers T5 folder, and of the
public CLIPpy checkpoint, which holds both under prefixes of its own. What else people hold is renamed to these first.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from clippy_jax.weights.rules import PATCHES, TRANSPOSED, Rule, prefixed


def _linear(key: str, path: str) -> tuple[Rule, Rule]:
    return Rule(f"{key}.weight", f"{path}/kernel", TRANSPOSED), Rule(f"{key}.bias", f"{path}/bias")


def _layer_norm(key: str, path: str) -> tuple[Rule, Rule]:
    return Rule(f"{key}.weight", f"{path}/scale"), Rule(f"{key}.bias", f"{path}/bias")


def _matrix(key: str, path: str) -> Rule:
    return Rule(f"{key}.weight", f"{path}/kernel", TRANSPOSED)


# DINO's ViT ↔ `models/vit.py`.
IMAGE_RULES = (
    Rule("cls_token", "cls_token"),
    Rule("pos_embed", "position_embedding"),
    Rule("patch_embed.proj.weight", "patch_embedding/kernel", PATCHES),
    Rule("patch_embed.proj.bias", "patch_embedding/bias"),
    *_layer_norm("blocks.{layer}.norm1", "blocks/norm1"),
    *_linear("blocks.{layer}.attn.qkv", "blocks/qkv"),
    *_linear("blocks.{layer}.attn.proj", "blocks/projection"),
    *_layer_norm("blocks.{layer}.norm2", "blocks/norm2"),
    *_linear("blocks.{layer}.mlp.fc1", "blocks/mlp_in"),
    *_linear("blocks.{layer}.mlp.fc2", "blocks/mlp_out"),
    *_layer_norm("norm", "norm"),
)


def t5_rules(gated: bool) -> tuple[Rule, ...]:
    """The T5 encoder in a sentence-transformers folder ↔ `models/t5.py`, all but its `dense`."""
    attention = "encoder.block.{layer}.layer.0.SelfAttention"
    mlp = "encoder.block.{layer}.layer.1.DenseReluDense"
    mlp_in = (_matrix(f"{mlp}.wi_0", "blocks/mlp_gate"), _matrix(f"{mlp}.wi_1", "blocks/mlp_in"))
    return (
        Rule("shared.weight", "token_embedding/embedding", alias="encoder.embed_tokens.weight"),
        _matrix(f"{attention}.q", "blocks/query"),
        _matrix(f"{attention}.k", "blocks/key"),
        _matrix(f"{attention}.v", "blocks/value"),
        _matrix(f"{attention}.o", "blocks/attention_out"),
        Rule(f"{attention}.relative_attention_bias.weight", "relative_position_bias/embedding"),
        Rule("encoder.block.{layer}.layer.0.layer_norm.weight", "blocks/attention_norm/scale"),
        *(mlp_in if gated else (_matrix(f"{mlp}.wi", "blocks/mlp_in"),)),
        _matrix(f"{mlp}.wo", "blocks/mlp_out"),
        Rule("encoder.block.{layer}.layer.1.layer_norm.weight", "blocks/mlp_norm/scale"),
        Rule("encoder.final_layer_norm.weight", "norm/scale"),
    )


def is_gated(keys: Iterable[str]) -> bool:
    """Whether the keys are those of a T5 whose MLP has a gate."""
    return any(".DenseReluDense.wi_0." in key for key in keys)


# The folder's dense module, a file of its own.
DENSE_RULES = (_matrix("linear", "dense"),)


def text_rules(gated: bool) -> tuple[Rule, ...]:
    """The whole text tower: the keys of the folder's two files, which do not collide."""
    return t5_rules(gated) + DENSE_RULES


def clippy_rules(gated: bool, image_projection: bool) -> tuple[Rule, ...]:
    """`clippy_5k.pt` ↔ `models/clippy.py`.

    The public model has no projection; a model with one keeps it under the key that open_clip's `TimmModel` would use.
    """
    projection = (_matrix("visual.head.proj", "image_projection"),)
    return (
        Rule("logit_scale", "logit_scale"),
        *prefixed(IMAGE_RULES, "visual.trunk.", "image/"),
        *(projection if image_projection else ()),
        *prefixed(t5_rules(gated), "text.0.auto_model.", "text/"),
        *prefixed(DENSE_RULES, "text.2.", "text/"),
    )


# What transformers calls the parts of DINO's ViT: as published, and as its modules are named today.
_IN_BLOCK = r"(?:encoder\.layer|layers)\.(\d+)\."
_DINO_NAMES = tuple(
    (re.compile(pattern + r"(?=\.|$)"), name)
    for pattern, name in (
        (r"embeddings\.cls_token", "cls_token"),
        (r"embeddings\.position_embeddings", "pos_embed"),
        (r"embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
        (_IN_BLOCK + r"attention\.(?:attention\.query|q_proj)", r"blocks.\1.attn.q"),
        (_IN_BLOCK + r"attention\.(?:attention\.key|k_proj)", r"blocks.\1.attn.k"),
        (_IN_BLOCK + r"attention\.(?:attention\.value|v_proj)", r"blocks.\1.attn.v"),
        (_IN_BLOCK + r"attention\.(?:output\.dense|o_proj)", r"blocks.\1.attn.proj"),
        (_IN_BLOCK + r"layernorm_before", r"blocks.\1.norm1"),
        (_IN_BLOCK + r"layernorm_after", r"blocks.\1.norm2"),
        (_IN_BLOCK + r"(?:intermediate\.dense|mlp\.fc1)", r"blocks.\1.mlp.fc1"),
        (_IN_BLOCK + r"(?:output\.dense|mlp\.fc2)", r"blocks.\1.mlp.fc2"),
        (r"layernorm", "norm"),
    )
)


def with_dino_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A DINO ViT's tensors under its own names, where they come under those of transformers.

    Its query, key and value become one tensor, as in DINO; its pooler, which DINO does not have, goes.
    """
    if not any(key.startswith("embeddings.") for key in tensors):
        return dict(tensors)
    renamed = {}
    for key, value in tensors.items():
        if not key.startswith("pooler."):
            matches = ((pattern.match(key), name) for pattern, name in _DINO_NAMES)
            match, name = next(((match, name) for match, name in matches if match), (None, ""))
            renamed[match.expand(name) + key[match.end() :] if match else key] = value
    for query in [key for key in renamed if ".attn.q." in key]:
        names = [query.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
        if all(name in renamed for name in names):
            renamed[query.replace(".attn.q.", ".attn.qkv.")] = np.concatenate([renamed.pop(name) for name in names])
    return renamed
