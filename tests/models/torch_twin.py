"""A PyTorch CLIPpy with random weights, and the same weights and gradients under the names and shapes of ours."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch
from flax.traverse_util import flatten_dict
from torch import Tensor

from clippy_jax.config import ModelConfig
from clippy_jax.weights.rules import to_flax
from clippy_jax.weights.torch_names import clippy_rules
from tests.models.transformers_clippy import TransformersCLIPpy


def random_twin(config: ModelConfig, seed: int = 0, attention: str = "eager") -> TransformersCLIPpy:
    """A twin in evaluation mode whose every parameter is random: norms and biases too, so that none can be left out."""
    torch.manual_seed(seed)
    twin = TransformersCLIPpy(config, attention).eval()
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            noise = torch.randn(parameter.shape)
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.ndim < 2 and name != "logit_scale":
                parameter.copy_(0.2 * noise)
            elif name == "logit_scale":
                parameter.copy_(torch.tensor(1.7))
            elif any(
                word in name for word in ("cls_token", "position_embeddings", "shared", "relative_attention_bias")
            ):
                parameter.copy_(noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            if name.endswith("SelfAttention.q.weight"):  # T5 does not scale its logits: its queries are small
                parameter.mul_(config.text.head_width**-0.5)
    return twin


def params_of(twin: TransformersCLIPpy) -> dict[str, Any]:
    """The twin's weights as our parameter tree."""
    return _as_ours(twin, lambda parameter: parameter.detach())


def gradients_of(twin: TransformersCLIPpy) -> dict[str, Any]:
    """The gradients that the last `backward` left in the twin, as a tree like our parameters."""
    return _as_ours(twin, lambda parameter: parameter.grad)


def public_names(twin: TransformersCLIPpy) -> dict[str, list[Tensor]]:
    """The names of the public CLIPpy checkpoint, each with the parameters that it holds one above the other."""
    visual, names = twin.visual, {"logit_scale": [twin.logit_scale]}
    trunk = {
        "cls_token": [visual.embeddings.cls_token],
        "pos_embed": [visual.embeddings.position_embeddings],
        **_weight_and_bias("patch_embed.proj", visual.embeddings.patch_embeddings.projection),
        **_weight_and_bias("norm", visual.layernorm),
    }
    for i, layer in enumerate(visual.layers):
        attention = layer.attention
        trunk |= {
            **_weight_and_bias(f"blocks.{i}.norm1", layer.layernorm_before),
            **_weight_and_bias(f"blocks.{i}.attn.qkv", attention.q_proj, attention.k_proj, attention.v_proj),
            **_weight_and_bias(f"blocks.{i}.attn.proj", attention.o_proj),
            **_weight_and_bias(f"blocks.{i}.norm2", layer.layernorm_after),
            **_weight_and_bias(f"blocks.{i}.mlp.fc1", layer.mlp.fc1),
            **_weight_and_bias(f"blocks.{i}.mlp.fc2", layer.mlp.fc2),
        }
    names |= {f"visual.trunk.{name}": parts for name, parts in trunk.items()}
    names |= {f"text.0.auto_model.{name}": [parameter] for name, parameter in twin.text.named_parameters()}
    names["text.2.linear.weight"] = [twin.dense.weight]
    if twin.config.image_projection:
        names["visual.head.proj.weight"] = [twin.image_projection.weight]
    return names


def relative_errors(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """For each array of two trees alike, the largest difference over the largest magnitude."""
    ours, theirs = flatten_dict(ours, sep="/"), flatten_dict(theirs, sep="/")
    assert ours.keys() == theirs.keys()
    return {name: relative_error(ours[name], theirs[name]) for name in ours}


def relative_error(ours: Any, theirs: Any) -> float:
    """The largest difference over the largest magnitude."""
    theirs = np.asarray(theirs.detach() if isinstance(theirs, Tensor) else theirs)
    ours = np.asarray(jax.device_get(ours))
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def _weight_and_bias(name: str, *layers: torch.nn.Module) -> dict[str, list[Tensor]]:
    return {f"{name}.{kind}": [getattr(layer, kind) for layer in layers] for kind in ("weight", "bias")}


def _as_ours(twin: TransformersCLIPpy, value: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    tensors = {
        name: torch.cat([value(part) for part in parts]) if len(parts) > 1 else value(parts[0])
        for name, parts in public_names(twin).items()
    }
    rules = clippy_rules(gated=twin.config.text.gated_mlp, image_projection=twin.config.image_projection)
    return to_flax({name: tensor.numpy() for name, tensor in tensors.items()}, rules)
