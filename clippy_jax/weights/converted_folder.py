"""Our own form of a CLIPpy: a folder that needs neither PyTorch nor anything else to be read. It holds

params.safetensors       the parameter tree, paths joined by "/"
optimizer.safetensors    "mean/..." and "square/...", if the source had them
config.json              the model's configuration, training image size, epoch, name, the optimizer's settings
tokenizer/               the tokenizer's files, if known
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clippy_jax.errors import InputError, reading
from clippy_jax.input_pipeline.tokenizer import copy_tokenizer
from clippy_jax.weights.checkpoint import Checkpoint, Moments, parse_description
from clippy_jax.weights.rules import some
from clippy_jax.weights.safetensors_file import read_safetensors, write_safetensors
from clippy_jax.weights.towers import parameter_shapes

_PARAMS, _OPTIMIZER, _CONFIG, _TOKENIZER = "params.safetensors", "optimizer.safetensors", "config.json", "tokenizer"
_AGAIN = "convert the weights again"


def write_converted_folder(folder: str, checkpoint: Checkpoint) -> None:
    """Makes the folder.

    Raises:
      OSError: it cannot be written.
    """
    root = Path(folder)
    root.mkdir(parents=True)
    moments = checkpoint.moments
    config = {
        "model": dataclasses.asdict(checkpoint.config),
        "image_size": checkpoint.image_size,
        "epoch": checkpoint.epoch,
        "name": checkpoint.name,
        "optimizer": moments and {"step": moments.step, "groups": moments.groups},
    }
    (root / _CONFIG).write_text(json.dumps(config, indent=2, default=lambda value: value.tolist()) + "\n")
    if checkpoint.tokenizer:
        (root / _TOKENIZER).mkdir()
        copy_tokenizer(checkpoint.tokenizer, str(root / _TOKENIZER))
    write_safetensors(str(root / _PARAMS), _flat(checkpoint.params), {})
    if moments:
        tree = {"mean": moments.mean, "square": moments.square}
        write_safetensors(str(root / _OPTIMIZER), _flat(tree), {})


def read_converted_folder(folder: str, with_moments: bool = True) -> Checkpoint:
    """Reads the folder, with or without what the optimizer remembers.

    Raises:
      InputError: a file is missing or damaged, or the parameters are not those of the configuration.
    """
    root = Path(folder)
    with reading(root / _CONFIG, _AGAIN, "is damaged"):
        settings = json.loads((root / _CONFIG).read_text())
        described, image_size, optimizer = settings["model"], settings.get("image_size"), settings["optimizer"]
        about = {"epoch": settings["epoch"], "name": settings["name"]}
    config, image_size = parse_description(described, image_size, str(root / _CONFIG))
    wanted = parameter_shapes(config)
    return Checkpoint(
        params=_tree(root / _PARAMS, wanted),
        config=config,
        image_size=image_size,
        tokenizer=str(root / _TOKENIZER) if (root / _TOKENIZER).is_dir() else None,
        moments=_read_moments(root, optimizer, wanted) if optimizer and with_moments else None,
        **about,
    )


def _read_moments(root: Path, optimizer: Any, wanted: Mapping[str, Any]) -> Moments:
    with reading(f"{root}: its optimizer", _AGAIN, "is damaged"):
        step, (without_decay, with_decay) = int(optimizer["step"]), map(_as_torch, optimizer["groups"])
    # Frozen towers have none.
    trained = [{part: wanted[part] for part in wanted if part not in frozen} for frozen in ((), ("image",), ("text",))]
    tree = _tree(root / _OPTIMIZER, *({"mean": parts, "square": parts} for parts in trained))
    return Moments(step, tree["mean"], tree["square"], (without_decay, with_decay))


def _as_torch(group: dict[str, Any]) -> dict[str, Any]:
    """PyTorch has tuples where JSON has lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in group.items()}


def _flat(tree: dict[str, Any]) -> dict[str, np.ndarray]:
    return {path: np.asarray(value) for path, value in flatten_dict(tree, sep="/").items()}


def _tree(path: Path, *wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a file in float32, which must be of one of the trees wanted."""
    arrays = read_safetensors(str(path))[0]
    has = {name: array.shape for name, array in arrays.items()}
    wants = [{name: leaf.shape for name, leaf in flatten_dict(tree, sep="/").items()} for tree in wanted]
    if has not in wants:
        wrong = sorted(name for name in has.keys() | wants[0].keys() if has.get(name) != wants[0].get(name))
        raise InputError(f"{path.parent} does not fit its own {_CONFIG} in {some(wrong)}; {_AGAIN}")
    others = [name for name, array in arrays.items() if array.dtype.kind != "f"]
    if others:
        raise InputError(f"{path} holds other than floating-point numbers in {some(others)}; {_AGAIN}")
    return unflatten_dict({name: array.astype(np.float32, copy=False) for name, array in arrays.items()}, sep="/")
