"""The schema of a configuration: every field a run reads, its type and its meaning.

A configuration file (`configs/*.py`) returns an `ml_collections.ConfigDict`; `parse` turns it into these frozen
dataclasses, and a key that is unknown, missing or of the wrong type ends in one line that names it. Code below the
entry points only ever sees the dataclasses.
"""

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any, Literal

from clippy_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class ImageTowerConfig:
    """A ViT as DINO defines it (`models/vit.py`)."""

    patch_size: int  # pixels along each side of a patch
    image_size: int  # pixels along each side of the image that the position embedding table is made for
    width: int  # features per token
    depth: int  # transformer blocks
    heads: int  # attention heads; must divide the width
    mlp_width: int  # hidden features of the MLP
    position_interpolation: Literal["dino", "plain"]  # how the position embedding follows other image sizes
    patch_dropout: float  # share of patch tokens left out of each training image, in [0, 1)


@dataclasses.dataclass(frozen=True)
class TextTowerConfig:
    """A T5 encoder with Sentence-T5's head (`models/t5.py`)."""

    vocabulary_size: int  # rows of the token embedding
    width: int  # features per token (d_model)
    depth: int  # encoder blocks
    heads: int  # attention heads
    head_width: int  # features per head (d_kv)
    mlp_width: int  # hidden features of the MLP (d_ff)
    gated_mlp: bool  # gated GELU (T5 1.1) instead of ReLU (T5)
    relative_buckets: int  # buckets of the relative position bias
    relative_max_distance: int  # distance from which on all positions share the last bucket
    embedding_width: int  # features of the sentence embedding
    dropout: float  # rate of every dropout in training


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """CLIPpy: the two towers and what joins them (`models/clippy.py`)."""

    image: ImageTowerConfig
    text: TextTowerConfig
    pooling: Literal["max", "max_with_cls", "avg", "cls"]  # how tokens become the image embedding
    image_projection: bool  # a linear map from the image tower's width to the text embedding's
    precision: Literal["float32", "tensorfloat32", "bfloat16"]  # of the matrix products; parameters stay float32
    rematerialise: bool  # recompute each block in the backward pass instead of keeping its activations


@dataclasses.dataclass(frozen=True)
class InitConfig:
    """PyTorch weights that the parameters start from (`weights/`); "" keeps the random initialisation."""

    image: str  # a DINO checkpoint (.pth)
    text: str  # a sentence-transformers folder
    clippy: str  # a whole CLIPpy: clippy_5k.pt, a converted folder or the workdir of a run


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """The training input (`input_pipeline/`)."""

    train: str  # tar pattern with braces, .csv / .tsv table, "tfds:NAME" or "synthetic"; several joined by "::"
    tokenizer: str  # folder with spiece.model or tokenizer.json
    batch_size: int  # image-caption pairs of one step, over all devices of all processes
    image_size: int  # pixels along each side of a training image
    crop_scale: tuple[float, float]  # share of the image's area that a random crop covers
    crop_ratio: tuple[float, float]  # width / height of a random crop
    flip: bool  # mirror half of the images
    text_length: int  # tokens that a caption is cut to, and of a row that captions share
    texts_per_pack: int  # captions that share rows; 1 gives each a row of its own
    clean_captions: bool  # ftfy, html-unescape twice, collapse white space
    index_folder: str  # where shard indexes are cached; "" for beside the shards
    seed: int  # of the sample order and the augmentation


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The contrastive loss (`training/losses/contrastive.py`)."""

    # "ring" is "softmax" in memory linear in the batch, for 32k pairs and more; "sigmoid" is SigLIP's.
    kind: Literal["softmax", "ring", "sigmoid"]
    reduction: Literal["mean", "sum"]  # of the image-to-text and the text-to-image direction; "sigmoid" has neither


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (`training/optimizer.py`)."""

    beta1: float
    beta2: float
    eps: float
    weight_decay: float  # on matrices and embeddings, never on biases, norms and the logit scale
    gradient_clip_norm: float  # largest global norm of the gradient; 0 for no clipping
    freeze: tuple[str, ...]  # towers that keep their weights: "image", "text"


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up, then a cosine to zero, cut off where training stops (`training/schedule.py`)."""

    peak_learning_rate: float
    warmup_steps: int
    decay_steps: int  # step at which the cosine reaches zero
    stop_step: int  # step after which training ends, however far the cosine has come


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When the train state is saved and which saves are kept (`run/checkpointing.py`)."""

    every_steps: int  # 0 for not by steps
    every_minutes: float  # 0 for not by the clock
    keep: int  # the newest so many
    keep_every_steps: int  # and every one at a multiple of so many steps, for good; 0 for none


@dataclasses.dataclass(frozen=True)
class WandbConfig:
    """Weights & Biases."""

    project: str  # "" for off
    name: str  # of the run; "" for the name of the workdir


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """One evaluation during training."""

    path: str  # the folder or file of its data; "" for off
    every_steps: int  # 0 for at the end only


@dataclasses.dataclass(frozen=True)
class EvalsConfig:
    """Evaluations during training (`evaluators/periodic.py`)."""

    batch_size: int
    image_size: int  # pixels along each side of an evaluation image
    tasks: dict[str, TaskConfig]  # by the names of `evaluators/tasks.py`, which are also the evaluation program's flags


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything a training run reads."""

    model: ModelConfig
    init: InitConfig
    input: InputConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    checkpoint: CheckpointConfig
    wandb: WandbConfig
    evals: EvalsConfig
    seed: int  # of the initial parameters, dropout and patch dropout
    microbatches: int  # parts in which each device encodes its pairs, to save memory (`training/microbatches.py`)
    parameter_sharding: Literal["replicated", "fsdp"]  # of parameters and optimizer state over the devices
    log_every_steps: int
    profile_steps: tuple[int, ...]  # (first, last): steps whose trace is written; () for none


def parse(values: Mapping[str, Any]) -> Config:
    """Checks a nested mapping (a `ConfigDict`, or the JSON in a workdir) against the schema.

    Raises:
      InputError: a key is unknown or missing, a value has the wrong type, or two fields contradict each other.
    """
    config = _parse(values, Config, "config")
    check_model(config.model)
    _check_training(config)
    return config


def parse_model(values: Mapping[str, Any]) -> ModelConfig:
    """The same for the `model` group alone."""
    model = _parse(values, ModelConfig, "model")
    check_model(model)
    return model


def check_model(model: ModelConfig) -> None:
    """Raises `InputError` where two fields of a model contradict each other."""
    image, text = model.image, model.text
    if image.width % image.heads:
        raise InputError(f"model.image.width is {image.width}, which its {image.heads} heads do not divide")
    check_image_size(image.image_size, image, "model.image.image_size")
    if not 0 <= image.patch_dropout < 1:
        raise InputError(f"model.image.patch_dropout must be in [0, 1), not {image.patch_dropout}")
    if not model.image_projection and image.width != text.embedding_width:
        raise InputError(
            f"model.image.width is {image.width} and model.text.embedding_width {text.embedding_width}: "
            "set model.image_projection=True or make them equal"
        )


def check_image_size(size: int, image: ImageTowerConfig, key: str) -> None:
    """Raises `InputError` if the patch size does not divide an image size; `key` names its field or flag."""
    if size < 1 or size % image.patch_size:
        raise InputError(
            f"{key} is {size}, which patches of {image.patch_size} pixels do not divide; "
            f"use {max(1, round(size / image.patch_size)) * image.patch_size}"
        )


def _check_training(config: Config) -> None:
    check_image_size(config.input.image_size, config.model.image, "config.input.image_size")
    check_image_size(config.evals.image_size, config.model.image, "config.evals.image_size")
    if not config.input.train:
        raise InputError(
            "config.input.train is empty; name the training data, for example '/data/cc12m/{00000..01242}.tar'"
        )
    if not config.input.tokenizer:
        raise InputError("config.input.tokenizer is empty; name a folder with spiece.model or tokenizer.json")
    for key in (
        "input.text_length",
        "input.texts_per_pack",
        "microbatches",
        "log_every_steps",
        "schedule.stop_step",
        "evals.batch_size",
    ):
        value = config
        for name in key.split("."):
            value = getattr(value, name)
        if value < 1:
            raise InputError(f"config.{key} must be at least 1, not {value}")
    for name, task in config.evals.tasks.items():
        if task.every_steps < 0:
            raise InputError(f"config.evals.tasks.{name}.every_steps must be at least 0, not {task.every_steps}")
    unknown = set(config.optimizer.freeze) - {"image", "text"}
    if unknown:
        raise InputError(f"config.optimizer.freeze names {sorted(unknown)[0]!r}; the towers are 'image' and 'text'")
    if config.profile_steps and (
        len(config.profile_steps) != 2 or not 0 < config.profile_steps[0] <= config.profile_steps[1]
    ):
        raise InputError(
            f"config.profile_steps must be () or (first, last) with 1 <= first <= last, not {config.profile_steps}"
        )
    if config.init.clippy and (config.init.image or config.init.text):
        raise InputError("config.init.clippy brings both towers: leave config.init.image and config.init.text empty")


def _parse(value: Any, wanted: Any, path: str) -> Any:
    if dataclasses.is_dataclass(wanted):
        _check_group(value, path)
        types = typing.get_type_hints(wanted)
        for key in value.keys():
            if key not in types:
                close = difflib.get_close_matches(str(key), types, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(types)}"
                raise InputError(f"{path}.{key} is not a configuration key; {hint}")
        for key in types:
            if key not in value:
                raise InputError(f"{path}.{key} is missing; it must be {_name(types[key])}")
        return wanted(**{key: _parse(value[key], kind, f"{path}.{key}") for key, kind in types.items()})
    if typing.get_origin(wanted) is dict:
        _check_group(value, path)
        kind = typing.get_args(wanted)[1]
        return {key: _parse(value[key], kind, f"{path}.{key}") for key in value.keys()}
    if typing.get_origin(wanted) is tuple:
        return _parse_tuple(value, typing.get_args(wanted), path)
    if typing.get_origin(wanted) is Literal:
        if value in typing.get_args(wanted):
            return value
    elif wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    raise InputError(f"{path} must be {_name(wanted)}, not {value!r}")


def _check_group(value: Any, path: str) -> None:
    if not isinstance(value, Mapping) and not hasattr(value, "items"):
        raise InputError(f"{path} must be a group of fields, not {value!r}")


def _parse_tuple(value: Any, item_types: tuple, path: str) -> tuple:
    if not isinstance(value, (tuple, list)):
        raise InputError(f"{path} must be a tuple, not {value!r}")
    if item_types[-1] is Ellipsis:
        item_types = (item_types[0],) * len(value)
    if len(value) != len(item_types):
        raise InputError(f"{path} must have {len(item_types)} items, not {value!r}")
    return tuple(_parse(item, kind, f"{path}[{i}]") for i, (item, kind) in enumerate(zip(value, item_types)))


def _name(wanted: Any) -> str:
    if typing.get_origin(wanted) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(wanted))
    return getattr(wanted, "__name__", str(wanted))
