"""Loading weights from any of the forms they come in: a model to use, or the parameters that a run starts from."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clippy_jax.config import ImageTowerConfig, ModelConfig
from clippy_jax.errors import InputError
from clippy_jax.input_pipeline.tokenizer import has_tokenizer
from clippy_jax.models.position_embedding import resize_position_embedding
from clippy_jax.weights.adamw import read_moments
from clippy_jax.weights.checkpoint import Checkpoint
from clippy_jax.weights.converted_folder import read_converted_folder
from clippy_jax.weights.kinds import Kind, find_weights, kind_of
from clippy_jax.weights.rules import Differences
from clippy_jax.weights.sizes import join_towers
from clippy_jax.weights.state_dict import Network
from clippy_jax.weights.towers import AnyConfig, initial_params, parameter_shapes, read_weights

# What may differ between two towers although the weights of one fit the other.
_FREE = ("image_size", "position_interpolation", "pixel_statistics", "patch_dropout", "dropout")


def load_checkpoint(
    path: str, step: int | None = None, with_moments: bool = True, flag: str = "--checkpoint"
) -> Checkpoint:
    """Loads a whole CLIPpy with all that belongs to it.

    Args:
      path: a CLIPpy file (`.pt`, `.pth`, `.safetensors`), a converted folder, the workdir of a run, or the name of one
        of the former two on the Hugging Face hub (`hf-hub:ORG/NAME`).
      step: which checkpoint of a run; the newest by default.
      with_moments: read the optimizer's memory, too.
      flag: what asked for it, for the error messages.

    Raises:
      InputError: it does not exist, cannot be read, or is something else; or `step` is given for what is not a run.
    """
    path = find_weights(path)
    kind = kind_of(path)
    if kind == Kind.RUN:
        # Orbax is needed here only: weights alone load without it.
        from clippy_jax.weights.run_folder import read_run

        return read_run(path, step, with_moments)
    if step is not None:
        raise InputError(f"--step={step}: {path} is not the workdir of a run and has no steps")
    if kind == Kind.CONVERTED:
        return read_converted_folder(path, with_moments)
    return from_clippy(path, flag, with_moments)[0]


def from_clippy(
    path: str, flag: str, with_moments: bool = True, allow_partial: bool = False
) -> tuple[Checkpoint, list[str]]:
    """Converts a file like `clippy_5k.pt`.

    Args:
      path: the file.
      flag: what asked for it, for the error messages.
      with_moments: convert the optimizer's state as well, if there is one.
      allow_partial: make up for missing and misshapen keys by a random initialisation, ignore unexpected ones.

    Returns:
      The checkpoint, and a line for each parameter that the file did not give and for each key that was ignored.

    Raises:
      InputError: the file cannot be read, is something else, or does not fit.
    """
    weights = read_weights(path)
    if weights.kind != Kind.CLIPPY:
        raise InputError(f"{flag}: {path} is a {weights.kind}; a {Kind.CLIPPY} is wanted")
    params, wrong = weights.to_params(allow_partial)
    moments = None
    if with_moments and weights.optimizer:
        moments = read_moments(weights.optimizer, weights.rules, parameter_shapes(weights.config), path)
    checkpoint = Checkpoint(
        params,
        weights.config,
        weights.image_size,
        tokenizer=weights.source if has_tokenizer(weights.source) else None,
        moments=moments,
        epoch=weights.epoch,
        name=weights.name,
    )
    return checkpoint, _notes(wrong.left, wrong.unexpected)


def from_towers(
    image: str, text: str, network: Network = "teacher", allow_partial: bool = False
) -> tuple[Checkpoint, list[str]]:
    """Joins a ViT backbone and a Sentence-T5; arguments and result as of `from_clippy`. The tokenizer is the text's.

    Either may be a whole CLIPpy in any form, of which the tower is taken. Towers of different widths get a projection,
    which is left at its initialisation as the logit scale is.
    """
    image_tower = _read_tower("image", image, "--image", network, allow_partial)
    text_tower = _read_tower("text", text, "--text", allow_partial=allow_partial)
    config = join_towers(
        image_tower.config, text_tower.config, image_tower.config.width != text_tower.config.embedding_width
    )
    given = flatten_dict({"image": image_tower.params, "text": text_tower.params}, sep="/")
    rest = [path for path in flatten_dict(parameter_shapes(config), sep="/") if path not in given]
    params = unflatten_dict({**given, **initial_params(config, rest)}, sep="/")
    image_wrong, text_wrong = image_tower.wrong, text_tower.wrong
    notes = _notes([*image_wrong.left, *text_wrong.left, *rest], [*image_wrong.unexpected, *text_wrong.unexpected])
    return Checkpoint(params, config, config.image.image_size, tokenizer=text_tower.tokenizer), notes


def initialise(
    params: Mapping[str, Any], config: ModelConfig, image: str = "", text: str = "", clippy: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """Puts weights into freshly initialised parameters.

    Args:
      params: the parameter tree of `config`, in host memory; it is not changed.
      config: the model.
      image: a DINO, DINOv2, DINOv3 or SigLIP checkpoint for the image tower, or a whole CLIPpy to take it of; "" for
        none.
      text: a sentence-transformers folder for the text tower, or a whole CLIPpy to take it of; "" for none. Its head is
        left where the model's embeddings are of another width.
      clippy: a CLIPpy file, converted folder or workdir for everything; "" for none. Each may be a name on the hub.

    Returns:
      The new tree, and the paths of the parameters that are as they were. A position embedding made for another grid is
      resized to the model's.

    Raises:
      InputError: a file cannot be read, or is of another architecture than `config`.
    """
    loaded = {}
    if image:
        tower = _read_tower("image", image, "config.init.image")
        # A backbone's file does not tell its heads.
        free = (*_FREE, "heads") if tower.kind == Kind.BACKBONE else _FREE
        _check_same(tower.config, config.image, free, image, "config.model.image")
        loaded["image"] = tower.params
    if text:
        tower = _read_tower("text", text, "config.init.text")
        _check_same(tower.config, config.text, (*_FREE, "embedding_width"), text, "config.model.text")
        # A head of another width starts at random; the encoder below it fits.
        other_head = tower.config.embedding_width != config.text.embedding_width
        loaded["text"] = {name: value for name, value in tower.params.items() if not (other_head and name == "dense")}
    if clippy:
        checkpoint = load_checkpoint(clippy, with_moments=False, flag="config.init.clippy")
        _check_same(checkpoint.config.image, config.image, _FREE, clippy, "config.model.image")
        _check_same(checkpoint.config.text, config.text, _FREE, clippy, "config.model.text")
        computed = ("image", "text", "pooling", "precision", "rematerialise")  # looked at, or free to change
        _check_same(checkpoint.config, config, computed, clippy, "config.model")
        loaded = checkpoint.params
    if "image" in loaded:
        loaded = {**loaded, "image": _fit_positions(loaded["image"], config.image)}
    before, new = flatten_dict(dict(params), sep="/"), flatten_dict(loaded, sep="/")
    return unflatten_dict({**before, **new}, sep="/"), [path for path in before if path not in new]


@dataclasses.dataclass(frozen=True)
class _Tower:
    """One tower of what it was read from."""

    kind: Kind
    params: dict[str, Any]
    config: Any
    wrong: Differences
    tokenizer: str | None


def _read_tower(
    part: Literal["image", "text"], name: str, flag: str, network: Network = "teacher", allow_partial: bool = False
) -> _Tower:
    """Reads a tower out of weights of its own or out of a whole CLIPpy in any form; `flag` names what asked for it."""
    path = find_weights(name, flag)
    kind = kind_of(path)
    if kind in (Kind.RUN, Kind.CONVERTED):
        checkpoint = load_checkpoint(path, with_moments=False)
        config = getattr(checkpoint.config, part)
        return _Tower(kind, checkpoint.params[part], config, Differences((), (), ()), checkpoint.tokenizer)
    weights = read_weights(path, network)
    own = Kind.BACKBONE if part == "image" else Kind.SENTENCE_T5
    if weights.kind not in (own, Kind.CLIPPY):
        raise InputError(f"{flag}: {path} is a {weights.kind}; a {own} is wanted, or a whole CLIPpy to take it of")
    params, wrong = weights.to_params(allow_partial)
    config, tokenizer = weights.config, weights.source if has_tokenizer(weights.source) else None
    if weights.kind == Kind.CLIPPY:
        params, config = params[part], getattr(config, part)
    return _Tower(weights.kind, params, config, wrong, tokenizer)


def _notes(left: Sequence[str], ignored: Sequence[str]) -> list[str]:
    return [
        *(f"not in the weights, left at its initialisation: {name}" for name in left),
        *(f"in the weights but not in the model, ignored: {name}" for name in ignored),
    ]


def _check_same(weights: AnyConfig, model: AnyConfig, free: Collection[str], path: str, group: str) -> None:
    has, wants = dataclasses.asdict(weights), dataclasses.asdict(model)
    wrong = [
        f"{group}.{field} is {wants[field]}, but {has[field]} there"
        for field in wants
        if field not in free and wants[field] != has[field]
    ]
    if wrong:
        raise InputError(f"{path} is of another model: {'; '.join(wrong)}; set the configuration to its sizes")


def _fit_positions(image: Mapping[str, Any], config: ImageTowerConfig) -> dict[str, Any]:
    if config.positions == "rotary":
        return dict(image)
    grid = 2 * (config.image_size // config.patch_size,)
    positions = resize_position_embedding(image["position_embedding"], grid, config.position_interpolation)
    return {**image, "position_embedding": np.asarray(positions)}
