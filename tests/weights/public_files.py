"""Weights as others publish them, tiny and random: written by the public packages, or key by key from their formats."""

import argparse
import json
import pathlib
import shutil
import warnings
import zlib
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from torch import Tensor
from transformers import T5Config, T5EncoderModel

VOCABULARY = 320  # more than the test tokenizer has, as T5 has


def random_tensor(*shape: int, seed: Any) -> Tensor:
    rng = np.random.default_rng(zlib.crc32(repr((shape, seed)).encode()))
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32))


def dino(width=48, depth=3, mlp=96, patch=16, grid=14, seed=0) -> dict[str, Tensor]:
    """The flat state dict of a DINO ViT."""
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + grid**2, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
    }
    for i in range(depth):
        shapes |= {
            f"blocks.{i}.norm1.weight": (width,),
            f"blocks.{i}.norm1.bias": (width,),
            f"blocks.{i}.attn.qkv.weight": (3 * width, width),
            f"blocks.{i}.attn.qkv.bias": (3 * width,),
            f"blocks.{i}.attn.proj.weight": (width, width),
            f"blocks.{i}.attn.proj.bias": (width,),
            f"blocks.{i}.norm2.weight": (width,),
            f"blocks.{i}.norm2.bias": (width,),
            f"blocks.{i}.mlp.fc1.weight": (mlp, width),
            f"blocks.{i}.mlp.fc1.bias": (mlp,),
            f"blocks.{i}.mlp.fc2.weight": (width, mlp),
            f"blocks.{i}.mlp.fc2.bias": (width,),
        }
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    return {key: random_tensor(*shape, seed=(key, seed)) for key, shape in shapes.items()}


def dino_training(seed=0) -> dict[str, Any]:
    """DINO's full training checkpoint, with the numbers and arguments that such a file carries."""
    heads = {
        **{f"mlp.{i}.{kind}": random_tensor(8, seed=(i, kind)) for i in (0, 2, 4) for kind in ("weight", "bias")},
        **{f"last_layer.weight_{kind}": random_tensor(8, seed=kind) for kind in "gv"},
    }

    def network(prefix, seed):
        backbone = {f"{prefix}backbone.{key}": value for key, value in dino(seed=seed).items()}
        return {**backbone, **{f"{prefix}head.{key}": value for key, value in heads.items()}}

    return {
        "student": network("module.", seed + 1),
        "teacher": network("", seed),
        "optimizer": {"state": {}, "param_groups": [{"lr": np.float64(1e-4), "params": [0]}]},
        "epoch": 300,
        "args": argparse.Namespace(arch="vit_base", patch_size=16, lr=np.float32(5e-4), use_fp16=True, gpu=0),
        "fp16_scaler": {"scale": 65536.0, "_growth_tracker": np.int64(3)},
        "dino_loss": {"center": torch.zeros(1, 8)},
    }


def t5(gated=False, depth=2) -> T5EncoderModel:
    """An encoder whose every parameter is random."""
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=depth,
        num_heads=2,
        feed_forward_proj="gated-gelu" if gated else "relu",
    )
    model = T5EncoderModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(0.3 * random_tensor(*parameter.shape, seed=name) + ("layer_norm" in name))
    return model


def dense(width=48) -> dict[str, Tensor]:
    return {"linear.weight": random_tensor(width, 32, seed="dense")}


def clippy(module="module.", t5_name="auto_model", gated=False, epoch=5) -> dict[str, Any]:
    """`clippy_5k.pt` without its optimizer."""
    tensors = {"logit_scale": torch.tensor(2.7)}
    tensors |= {f"visual.trunk.{key}": value for key, value in dino().items()}
    tensors |= {f"text.0.{t5_name}.{key}": value for key, value in t5(gated).state_dict().items()}
    tensors |= {f"text.2.{key}": value for key, value in dense().items()}
    return {
        "epoch": epoch,
        "name": "clippy",
        "state_dict": {f"{module}{key}": value for key, value in tensors.items()},
    }


def adamw(state_dict: dict[str, Tensor], steps=3, frozen="nothing") -> torch.optim.AdamW:
    """PyTorch's optimizer in the public code's two groups, after some updates."""
    parameters = {
        key: torch.nn.Parameter(value.clone())
        for key, value in state_dict.items()
        if "embed_tokens" not in key and frozen not in key
    }
    exempt = {
        key
        for key, value in parameters.items()
        if value.ndim < 2 or "bn" in key or "ln" in key or "bias" in key or "logit_scale" in key
    }
    groups = [
        {"params": [value for key, value in parameters.items() if key in exempt], "weight_decay": 0.0},
        {"params": [value for key, value in parameters.items() if key not in exempt], "weight_decay": 0.2},
    ]
    optimizer = torch.optim.AdamW(groups, lr=5e-4)
    for step in range(steps):
        for key, parameter in parameters.items():
            parameter.grad = random_tensor(*parameter.shape, seed=(key, step))
        optimizer.step()
    return optimizer


def save_folder_today(folder: pathlib.Path, spiece_folder: pathlib.Path, gated=False) -> SentenceTransformer:
    """The Sentence-T5 as the installed sentence-transformers saves it."""
    start = folder.with_name(f"{folder.name}-encoder")
    t5(gated).save_pretrained(start)
    shutil.copyfile(spiece_folder / "spiece.model", start / "spiece.model")
    with warnings.catch_warnings(action="ignore"):
        linear = Dense(32, 48, bias=False, activation_function=torch.nn.Identity())
        linear.load_state_dict(dense())
        encoder = Transformer(str(start), max_seq_length=256)
        modules = [encoder, Pooling(32, pooling_mode="mean"), linear, Normalize()]
        model = SentenceTransformer(modules=modules, device="cpu")
    model.save(str(folder))
    return model


def save_folder_22(folder: pathlib.Path, spiece_folder: pathlib.Path, half=False, drop="", gated=False) -> None:
    """The same in the layout of sentence-transformers 2.2: `.bin` files, `max_seq_length` in a file of its own."""
    for name in ("1_Pooling", "2_Dense", "3_Normalize"):
        (folder / name).mkdir(parents=True)
    shutil.copyfile(spiece_folder / "spiece.model", folder / "spiece.model")
    model = t5(gated)
    kind = "sentence_transformers.models"
    files = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"{kind}.{path[2:] or 'Transformer'}"}
            for i, path in enumerate(("", "1_Pooling", "2_Dense", "3_Normalize"))
        ],
        "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False},
        "config.json": model.config.to_dict(),
        "1_Pooling/config.json": {
            "word_embedding_dimension": 32,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        "2_Dense/config.json": {
            "in_features": 32,
            "out_features": 48,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    }
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values))
    state = {key: value.half() if half else value for key, value in model.state_dict().items() if key != drop}
    torch.save(state, folder / "pytorch_model.bin")
    torch.save(dense(), folder / "2_Dense" / "pytorch_model.bin")
