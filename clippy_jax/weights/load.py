"""Loading weights from any of the forms they come in: a model to use, or the parameters that a run starts from."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clippy_jax.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from clippy_jax.errors import InputError
from clippy_jax.models.position_embedding import resize_position_embedding
from clippy_jax.weights.checkpoint import Checkpoint
from clippy_jax.weights.conversion import from_clippy
from clippy_jax.weights.converted_folder import is_converted_folder, read_converted_folder
from clippy_jax.weights.sources import read_as

# What two towers must have in common for the weights of one to fit the other. (A DINO file does not tell its heads.)
_IMAGE_SIZES = ("patch_size", "width", "depth", "mlp_width")
_TEXT_SIZES = (
    "vocabulary_size",
    "width",
    "depth",
    "heads",
    "head_width",
    "mlp_width",
    "gated_mlp",
    "relative_buckets",
    "relative_max_distance",
    "embedding_width",
)


class LoadedModel(NamedTuple):
    """What it takes to compute embeddings."""

    params: dict[str, Any]  # in host memory
    config: ModelConfig
    tokenizer: str | None  # the folder with its files; None where the checkpoint carries none


def load_params(checkpoint: str, step: int | None = None) -> LoadedModel:
    """Loads a model to use it.

    Args:
      checkpoint: a CLIPpy file (`.pt`, `.pth`, `.safetensors`), a converted folder, or the workdir of a run.
      step: which checkpoint of a run; the newest by default.

    Raises:
      InputError: it does not exist, cannot be read, or is something else.
    """
    loaded = load_checkpoint(checkpoint, step, with_moments=False)
    return LoadedModel(loaded.params, loaded.config, loaded.tokenizer)


def load_checkpoint(path: str, step: int | None = None, with_moments: bool = True) -> Checkpoint:
    """The same with all that the checkpoint holds; `with_moments` says whether the optimizer's memory is read, too.

    Raises:
      InputError: as `load_params`, or `step` is given for what is not a run.
    """
    if not os.path.exists(path):
        raise InputError(f"--checkpoint={path} does not exist")
    if os.path.isdir(path) and not is_converted_folder(path):
        # Orbax is needed here only: weights alone load without it.
        from clippy_jax.weights.run_folder import read_run

        return read_run(path, step, with_moments)
    if step is not None:
        raise InputError(f"--step={step}: {path} is not the workdir of a run and has no steps")
    if os.path.isdir(path):
        return read_converted_folder(path, with_moments)
    return from_clippy(path, "--checkpoint", with_moments).checkpoint


def initialise(
    params: Mapping[str, Any], config: ModelConfig, image: str = "", text: str = "", clippy: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """Puts weights into freshly initialised parameters.

    Args:
      params: the parameter tree of `config`, in host memory; it is not changed.
      config: the model.
      image: a DINO checkpoint for the image tower; "" for none.
      text: a sentence-transformers folder for the text tower; "" for none.
      clippy: a CLIPpy file, converted folder or workdir for everything; "" for none.

    Returns:
      The new tree, and the paths of the parameters that are as they were. A position embedding made for another grid is
      resized to the model's.

    Raises:
      InputError: a file cannot be read, or is of another architecture than `config`.
    """
    loaded = {}
    if image:
        weights = read_as("DINO backbone", image, "config.init.image")
        _check_same(weights.config, config.image, _IMAGE_SIZES, image, "config.model.image")
        loaded["image"], _ = weights.to_params()
    if text:
        weights = read_as("Sentence-T5 folder", text, "config.init.text")
        _check_same(weights.config, config.text, _TEXT_SIZES, text, "config.model.text")
        loaded["text"], _ = weights.to_params()
    if clippy:
        checkpoint = load_checkpoint(clippy, with_moments=False)
        _check_same(checkpoint.config.image, config.image, (*_IMAGE_SIZES, "heads"), clippy, "config.model.image")
        _check_same(checkpoint.config.text, config.text, _TEXT_SIZES, clippy, "config.model.text")
        _check_same(checkpoint.config, config, ("image_projection",), clippy, "config.model")
        loaded = checkpoint.params
    if "image" in loaded:
        loaded = {**loaded, "image": _fit_positions(loaded["image"], config.image)}
    before, new = flatten_dict(dict(params), sep="/"), flatten_dict(loaded, sep="/")
    return unflatten_dict({**before, **new}, sep="/"), [path for path in before if path not in new]


def _check_same(
    weights: ImageTowerConfig | TextTowerConfig | ModelConfig,
    model: ImageTowerConfig | TextTowerConfig | ModelConfig,
    fields: tuple[str, ...],
    path: str,
    group: str,
) -> None:
    wrong = [
        f"{group}.{field} is {getattr(model, field)}, but {getattr(weights, field)} there"
        for field in fields
        if getattr(model, field) != getattr(weights, field)
    ]
    if wrong:
        raise InputError(f"{path} is of another model: {'; '.join(wrong)}; set the configuration to its sizes")


def _fit_positions(image: Mapping[str, Any], config: ImageTowerConfig) -> dict[str, Any]:
    grid = 2 * (config.image_size // config.patch_size,)
    positions = resize_position_embedding(image["position_embedding"], grid, config.position_interpolation)
    return {**image, "position_embedding": np.asarray(positions)}
