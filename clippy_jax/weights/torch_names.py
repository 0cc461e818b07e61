"""The conversion tables: torch key ↔ parameter path ↔ transform, in the order of the PyTorch modules.

The names on the left are those of a sentence-transformers T5 folder and of the public CLIPpy checkpoint, which holds it
and an image tower (`image_names.py`) under prefixes of its own.
"""

from collections.abc import Iterable

from clippy_jax.weights.image_names import DINO, ImageParts, image_rules
from clippy_jax.weights.rules import Rule, matrix, prefixed

IMAGE_PREFIX = "visual.trunk."


def t5_rules(gated: bool) -> tuple[Rule, ...]:
    """The T5 encoder in a sentence-transformers folder ↔ `models/t5.py`, all but its `dense`."""
    attention = "encoder.block.{layer}.layer.0.SelfAttention"
    mlp = "encoder.block.{layer}.layer.1.DenseReluDense"
    mlp_in = (matrix(f"{mlp}.wi_0", "blocks/mlp_gate"), matrix(f"{mlp}.wi_1", "blocks/mlp_in"))
    return (
        Rule("shared.weight", "token_embedding/embedding", alias="encoder.embed_tokens.weight"),
        matrix(f"{attention}.q", "blocks/query"),
        matrix(f"{attention}.k", "blocks/key"),
        matrix(f"{attention}.v", "blocks/value"),
        matrix(f"{attention}.o", "blocks/attention_out"),
        Rule(f"{attention}.relative_attention_bias.weight", "relative_position_bias/embedding"),
        Rule("encoder.block.{layer}.layer.0.layer_norm.weight", "blocks/attention_norm/scale"),
        *(mlp_in if gated else (matrix(f"{mlp}.wi", "blocks/mlp_in"),)),
        matrix(f"{mlp}.wo", "blocks/mlp_out"),
        Rule("encoder.block.{layer}.layer.1.layer_norm.weight", "blocks/mlp_norm/scale"),
        Rule("encoder.final_layer_norm.weight", "norm/scale"),
    )


def is_gated(keys: Iterable[str]) -> bool:
    """Whether the keys are those of a T5 whose MLP has a gate."""
    return any(".DenseReluDense.wi_0." in key for key in keys)


# The folder's dense module, a file of its own.
DENSE_RULES = (matrix("linear", "dense"),)


def text_rules(gated: bool) -> tuple[Rule, ...]:
    """The whole text tower: the keys of the folder's two files, which do not collide."""
    return t5_rules(gated) + DENSE_RULES


def clippy_rules(gated: bool, image_projection: bool, image: ImageParts = DINO) -> tuple[Rule, ...]:
    """`clippy_5k.pt` ↔ `models/clippy.py`.

    The public model has no projection; a model with one keeps it under the key that open_clip's `TimmModel` would use.
    """
    projection = (matrix("visual.head.proj", "image_projection"),)
    return (
        Rule("logit_scale", "logit_scale"),
        *prefixed(image_rules(image), IMAGE_PREFIX, "image/"),
        *(projection if image_projection else ()),
        *prefixed(t5_rules(gated), "text.0.auto_model.", "text/"),
        *prefixed(DENSE_RULES, "text.2.", "text/"),
    )
