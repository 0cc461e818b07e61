"""Writing a CLIPpy as the public code saves it: `clippy_5k.pt` and its like."""

import dataclasses
import json
from typing import Any

from clippy_jax.weights.adamw import write_moments
from clippy_jax.weights.checkpoint import Checkpoint
from clippy_jax.weights.image_names import ImageParts, original_tensors
from clippy_jax.weights.rules import Rule, to_torch
from clippy_jax.weights.safetensors_file import write_safetensors
from clippy_jax.weights.torch_file import write_torch_file
from clippy_jax.weights.torch_names import clippy_rules


def write_clippy(path: str, checkpoint: Checkpoint) -> None:
    """Writes {epoch, name, state_dict, optimizer}, which the public code loads strictly and resumes from.

    Two entries more, `model_config` and `image_size`, tell our reader what weights cannot tell (pooling, heads, the
    size of training images); the public code does not look at them.

    Raises:
      InputError: PyTorch is not installed.
      OSError: the file cannot be written.
    """
    rules = _rules(checkpoint)
    contents: dict[str, Any] = {
        "epoch": checkpoint.epoch,
        "name": checkpoint.name,
        "state_dict": {f"module.{key}": value for key, value in to_torch(checkpoint.params, rules).items()},
        "model_config": dataclasses.asdict(checkpoint.config),
        "image_size": checkpoint.image_size,
    }
    if checkpoint.moments:
        contents["optimizer"] = write_moments(checkpoint.moments, rules)
    write_torch_file(path, contents)


def write_clippy_safetensors(path: str, checkpoint: Checkpoint) -> None:
    """Writes the same tensors, without `module.` and without the optimizer, as safetensors.

    Raises:
      OSError: the file cannot be written.
    """
    metadata = {
        "format": "pt",
        "epoch": str(checkpoint.epoch),
        "name": checkpoint.name,
        "model_config": json.dumps(dataclasses.asdict(checkpoint.config)),
        "image_size": str(checkpoint.image_size),
    }
    write_safetensors(path, to_torch(checkpoint.params, _rules(checkpoint)), metadata)


def write_dino(path: str, checkpoint: Checkpoint) -> None:
    """Writes the image tower alone as the flat file of its family, for SigLIP as transformers names it.

    Raises:
      InputError: PyTorch is not installed.
      OSError: the file cannot be written.
    """
    write_torch_file(path, original_tensors(checkpoint.params["image"], checkpoint.config.image))


def _rules(checkpoint: Checkpoint) -> tuple[Rule, ...]:
    config = checkpoint.config
    return clippy_rules(config.text.gated_mlp, config.image_projection, ImageParts.of_config(config.image))
