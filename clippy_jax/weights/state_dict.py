"""State dicts out of the files and folders of PyTorch, freed from what training has wrapped around them."""

import json
import logging
import os
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from clippy_jax.errors import InputError, reading
from clippy_jax.weights.image_names import with_table_names
from clippy_jax.weights.kinds import TENSOR_FILES, Kind, is_safetensors, kind_of_keys, tensor_files
from clippy_jax.weights.safetensors_file import read_safetensors
from clippy_jax.weights.torch_file import read_torch_file

Network = Literal["teacher", "student"]

# Where training programs keep the weights in what they save, in order of preference.
_ENTRIES = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")

# Modules that training puts around others: data-parallel, compiled, sharded, rematerialised.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.", re.ASCII)


def read_state_dict(path: str, network: Network = "teacher") -> tuple[Kind, dict[str, np.ndarray], Mapping[str, Any]]:
    """Reads a ViT backbone or a CLIPpy out of a file, or out of a folder of transformers.

    Args:
      path: the file or folder.
      network: which of the two networks in a DINO training checkpoint.

    Returns:
      What it is, its tensors under the names of the tables (`torch_names.py`, `image_names.py`), and what was saved
      beside them ("epoch", ...).

    Raises:
      InputError: it cannot be read or is something else.
    """
    files = tensor_files(path) if os.path.isdir(path) else [path]
    path = files[0] if len(files) == 1 else path
    if os.path.isdir(path):
        contents = read_tensors(path)
    elif is_safetensors(path):
        tensors, metadata = read_safetensors(path)
        contents = {**_parse_metadata(metadata, path), "state_dict": tensors}
    else:
        contents = read_torch_file(path)
    if not isinstance(contents, Mapping):
        raise InputError(
            f"{path} holds a {type(contents).__qualname__}, not a state dict; save the model's state_dict()"
        )
    saved_with = {}
    entries = [entry for entry in (network, *_ENTRIES) if isinstance(contents.get(entry), Mapping)]
    if entries:
        saved_with, contents = contents, contents[entries[0]]
        if len(entries) > 1:
            logging.warning("%s holds %s: %r is taken", path, " and ".join(map(repr, entries)), entries[0])
    tensors = {str(key): value for key, value in contents.items() if isinstance(value, np.ndarray)}
    if not tensors:
        raise InputError(f"{path} holds no state dict; save the model's state_dict()")
    return *_public_names(tensors, network, path), saved_with


def read_tensors(folder: str) -> dict[str, np.ndarray]:
    """The tensors of a transformers folder, in either format, in one file or in several with an index.

    Raises:
      InputError: there are none, or they cannot be read.
    """
    for name in TENSOR_FILES:
        files = [name]
        index = os.path.join(folder, f"{name}.index.json")
        if os.path.exists(index):
            places = read_json(index).get("weight_map")
            if not isinstance(places, dict):
                raise InputError(f"{index} has no weight_map; get it again")
            files = sorted({str(file) for file in places.values()})
            if any(os.path.basename(file) != file for file in files):
                raise InputError(f"{index} names files outside of its folder; get it again, from a source you trust")
        elif not os.path.exists(os.path.join(folder, name)):
            continue
        tensors = {}
        for path in (os.path.join(folder, file) for file in files):
            tensors |= read_safetensors(path)[0] if is_safetensors(path) else read_torch_file(path)
        return tensors
    raise InputError(f"{folder} has neither {' nor '.join(TENSOR_FILES)}; copy the folder again")


def read_json(path: str, kind: type = dict) -> Any:
    """The contents of a JSON file, which must be a `kind`.

    Raises:
      InputError: it cannot be read or is something else.
    """
    with reading(path, "copy the folder again", "cannot be read as JSON"), open(path, encoding="utf-8") as file:
        values = json.load(file)
    if not isinstance(values, kind):
        raise InputError(f"{path} holds a {type(values).__name__}, not a {kind.__name__}; get it again")
    return values


def _parse_metadata(metadata: Mapping[str, str], path: str) -> dict[str, Any]:
    """What files of ours tell in the words of JSON, since safetensors knows text only."""
    with reading(f"{path}: its metadata", "get it again"):
        return {key: json.loads(text) if key == "model_config" else text for key, text in metadata.items()}


def _public_names(tensors: Mapping[str, np.ndarray], network: Network, path: str) -> tuple[Kind, dict[str, np.ndarray]]:
    """The kind of the tensors, and the tensors without wrappers, other networks and heads of DINO's training."""
    unwrapped = {_WRAPPERS.sub("", key): value for key, value in tensors.items()}
    if len(unwrapped) != len(tensors):
        raise InputError(f"{path} holds some tensors twice, with and without the prefix of a wrapper; remove one")
    kind, prefix = kind_of_keys(unwrapped, network, path)
    if kind == Kind.BACKBONE:
        unwrapped = {key: value for key, value in unwrapped.items() if key.startswith(prefix)}
    unwrapped = {key.removeprefix(prefix): value for key, value in unwrapped.items()}
    if kind == Kind.BACKBONE:
        return kind, with_table_names(unwrapped, path)
    # sentence-transformers 6 has renamed the module.
    return kind, {key.replace("text.0.model.", "text.0.auto_model.", 1): value for key, value in unwrapped.items()}
