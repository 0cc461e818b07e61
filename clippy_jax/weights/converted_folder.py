"""Our own form of a CLIPpy: a folder that needs neither PyTorch nor anything else to be read. It holds

params.safetensors       the parameter tree, paths joined by "/"
optimizer.safetensors    "mean/..." and "square/...", if the source had them
config.json              the model's configuration, training image size, epoch, name, the optimizer's settings
tokenizer/               the tokenizer's files, if known
"""

import dataclasses
import json
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
    with reading(root / _CONFIG, _AGAIN):
        settings = json.loads((root / _CONFIG).read_text())
        described, image_size, optimizer = settings["model"], settings.get("image_size"), settings["optimizer"]
        about = {"epoch": settings["epoch"], "name": settings["name"]}
    config, image_size = parse_description(described, image_size, str(root / _CONFIG))
    checkpoint = Checkpoint(
        params=_tree(root / _PARAMS),
        config=config,
        image_size=image_size,
        tokenizer=str(root / _TOKENIZER) if (root / _TOKENIZER).is_dir() else None,
        moments=_read_moments(root, optimizer) if optimizer and with_moments else None,
        **about,
    )
    _check_shapes(checkpoint, folder)
    return checkpoint


def _read_moments(root: Path, optimizer: Any) -> Moments:
    tree = _tree(root / _OPTIMIZER)
    with reading(f"{root}: its optimizer", _AGAIN):
        step, groups = int(optimizer["step"]), tuple(_as_torch(group) for group in optimizer["groups"])
        return Moments(step, tree["mean"], tree["square"], groups)


def _as_torch(group: dict[str, Any]) -> dict[str, Any]:
    """PyTorch has tuples where JSON has lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in group.items()}


def _flat(tree: dict[str, Any]) -> dict[str, np.ndarray]:
    return {path: np.asarray(value) for path, value in flatten_dict(tree, sep="/").items()}


def _tree(path: Path) -> dict[str, Any]:
    return unflatten_dict(read_safetensors(str(path))[0], sep="/")


def _check_shapes(checkpoint: Checkpoint, folder: str) -> None:
    trees = checkpoint.params, parameter_shapes(checkpoint.config)
    has, wants = ({path: leaf.shape for path, leaf in flatten_dict(tree, sep="/").items()} for tree in trees)
    wrong = sorted(path for path in has.keys() | wants.keys() if has.get(path) != wants.get(path))
    if wrong:
        raise InputError(f"{folder} does not fit its own config.json in {some(wrong)}; {_AGAIN}")
