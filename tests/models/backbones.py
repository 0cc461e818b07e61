"""Tiny DINOv2, DINOv3 and SigLIP backbones of `transformers`, with every parameter random."""

import torch
from torch import nn
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

SIZES = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, attn_implementation="eager")
DINOV2 = SIZES | dict(mlp_ratio=2, image_size=56, patch_size=14)
SIGLIP = SIZES | dict(intermediate_size=100, image_size=64, patch_size=16)
DINOV3 = SIZES | dict(intermediate_size=96, num_register_tokens=4)
BACKBONES = {
    "dinov2": lambda **fields: Dinov2Model(Dinov2Config(**DINOV2 | fields)),
    "dinov2 gated": lambda: BACKBONES["dinov2"](use_swiglu_ffn=True),
    "dinov2 with registers": lambda **fields: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**DINOV2 | fields)),
    "dinov3": lambda **fields: DINOv3ViTModel(DINOv3ViTConfig(**DINOV3 | fields)),
    "dinov3 gated": lambda: BACKBONES["dinov3"](use_gated_mlp=True, hidden_act="silu"),
    "siglip": lambda **fields: SiglipVisionModel(SiglipVisionConfig(**SIGLIP | fields)),
}


def random_backbone(name: str, **fields) -> nn.Module:
    """One of `BACKBONES` in evaluation mode; norms, biases, scales and special tokens are random too."""
    torch.manual_seed(0)
    model = BACKBONES[name](**fields).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape)
            if "norm" in key and key.endswith("weight") or "lambda1" in key:
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.ndim < 2:
                parameter.copy_(0.2 * noise)
            elif "token" in key or "position" in key or "probe" in key:
                parameter.copy_(noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
    return model
