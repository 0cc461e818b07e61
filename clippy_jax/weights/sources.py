"""Finding out what a file or folder of PyTorch weights is, and reading it as what it is."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from clippy_jax.config import parse_model
from clippy_jax.errors import InputError
from clippy_jax.weights.safetensors_file import read_safetensors
from clippy_jax.weights.sentence_t5 import read_sentence_t5
from clippy_jax.weights.sizes import clippy_sizes, image_sizes
from clippy_jax.weights.state_dict import Kind, StateDict
from clippy_jax.weights.tables import IMAGE_RULES, clippy_rules
from clippy_jax.weights.torch_file import read_torch_file

Network = Literal["teacher", "student"]


def read_weights(path: str, network: Network = "teacher") -> StateDict:
    """Reads any of the PyTorch weights that we know.

    Args:
      path: a DINO or CLIPpy file (`.pt`, `.pth`, `.safetensors`) or a sentence-transformers folder.
      network: which of the two networks in a DINO training checkpoint.

    Raises:
      InputError: it cannot be read or is something else.
    """
    if os.path.isdir(path):
        return read_sentence_t5(path)
    if path.endswith(".safetensors"):
        contents, metadata = read_safetensors(path)
        if "model_config" in metadata:
            contents = {
                "state_dict": contents,
                "model_config": _parse_json(metadata["model_config"], path),
                "epoch": metadata.get("epoch", "0"),
                "name": metadata.get("name", ""),
            }
    else:
        contents = read_torch_file(path)
    if not isinstance(contents, Mapping):
        raise InputError(f"{path} holds a {type(contents).__name__}, not a state dict; save the model's state_dict()")
    if network in contents:
        return _dino(path, _backbone(_tensors_of(contents[network], path)))
    tensors = _tensors_of(contents.get("state_dict", contents), path)
    if any(key.startswith(("visual.", "text.")) for key in tensors):
        return _clippy(path, tensors, contents)
    if any(key.startswith(("patch_embed.", "blocks.", "backbone.")) for key in tensors):
        return _dino(path, _backbone(tensors))
    raise InputError(
        f"{path} is none of the weights known here (a DINO ViT, a CLIPpy checkpoint, a Sentence-T5 folder); "
        f"its keys begin with {', '.join(sorted({key.partition('.')[0] for key in tensors})[:5]) or 'nothing'}"
    )


def read_as(kind: Kind, path: str, flag: str, network: Network = "teacher") -> StateDict:
    """Reads weights that must be of one kind; `flag` names what asked for them.

    Raises:
      InputError: as `read_weights`, or they are of another kind.
    """
    weights = read_weights(path, network)
    if weights.kind != kind:
        raise InputError(f"{flag}: {path} is a {weights.kind}; a {kind} is wanted")
    return weights


def _tensors_of(state_dict: Any, path: str) -> dict[str, np.ndarray]:
    """The tensors of a state dict without the prefix that data-parallel training gives them."""
    if not isinstance(state_dict, Mapping) or not state_dict:
        raise InputError(f"{path} holds no state dict; save the model's state_dict()")
    others = [str(key) for key, value in state_dict.items() if not isinstance(value, np.ndarray)]
    if others:
        raise InputError(f"{path} holds no tensor under {', '.join(others)}; save the model's state_dict()")
    return {str(key).removeprefix("module."): value for key, value in state_dict.items()}


def _backbone(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """The ViT of a DINO network, without its projection head."""
    if not any(key.startswith("backbone.") for key in tensors):
        return tensors
    return {key.removeprefix("backbone."): value for key, value in tensors.items() if not key.startswith("head.")}


def _dino(path: str, tensors: Mapping[str, np.ndarray]) -> StateDict:
    return StateDict(
        source=path, kind="DINO backbone", tensors=tensors, rules=IMAGE_RULES, config=image_sizes(tensors, path)
    )


def _clippy(path: str, tensors: Mapping[str, np.ndarray], contents: Mapping[str, Any]) -> StateDict:
    # sentence-transformers 6 has renamed the module.
    tensors = {key.replace("text.0.model.", "text.0.auto_model.", 1): value for key, value in tensors.items()}
    described = contents.get("model_config")  # only files of ours have it
    sizes = described or dataclasses.asdict(clippy_sizes(tensors, path))
    try:
        config = parse_model(sizes)
    except InputError as error:
        raise InputError(f"{path} does not describe a model: {error}") from None
    wrapped = "state_dict" in contents
    return StateDict(
        source=path,
        kind="CLIPpy checkpoint",
        tensors=tensors,
        rules=clippy_rules(config.text.gated_mlp, config.image_projection),
        config=config,
        epoch=_integer(contents.get("epoch", 0), path) if wrapped else 0,
        name=str(contents.get("name", "")) if wrapped else "",
        optimizer=contents.get("optimizer") if wrapped else None,
    )


def _integer(value: Any, path: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise InputError(f"{path}: its epoch is {value!r}, not a number") from None


def _parse_json(text: str, path: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: its metadata are damaged ({error})") from None
