"""The conversion tables: torch key ↔ parameter path ↔ transform, in the order of the PyTorch modules.

The names on the left are those of DINO's `vision_transformer.py`, of a sentence-transformers T5 folder, and of the
public CLIPpy checkpoint, which holds both under prefixes of its own.
"""

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
