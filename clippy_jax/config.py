"""The schema of a configuration: every field a run reads, its type and its meaning.

A configuration file (`configs/*.py`) returns an `ml_collections.ConfigDict`; `parse` turns it into these frozen
dataclasses, and a key that is unknown or missing or a value of the wrong type or range ends in one line that names it.
Every value is checked here and only here; what depends on the devices or on files is checked where these are known.
Code below the entry points only ever sees the dataclasses.

A field that is added later gets a default, with which runs from before it are what they were.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from clippy_jax.config_parser import parse_value
from clippy_jax.errors import InputError

Count = Annotated[int, "at least 1", lambda n: n >= 1]
CountOrZero = Annotated[int, "at least 0", lambda n: n >= 0]
Buckets = Annotated[int, "at least 4", lambda n: n >= 4]
Seed = Annotated[int, "from 0 to 2**32 - 1", lambda n: 0 <= n < 2**32]  # JAX would drop a larger one's upper bits
Positive = Annotated[float, "above 0", lambda x: x > 0]
PositiveOrZero = Annotated[float, "at least 0", lambda x: x >= 0]
Fraction = Annotated[float, "in [0, 1]", lambda x: 0 <= x <= 1]
Pixels = Annotated[int, "from 1 to 178956970", lambda n: 1 <= n <= 178956970]  # Pillow refuses more
Share = Annotated[float, "in [0, 1)", lambda x: 0 <= x < 1]
ShareOrSame = Annotated[float, "in [0, 1), or -1", lambda x: 0 <= x < 1 or x == -1]


@dataclasses.dataclass(frozen=True)
class ImageTowerConfig:
    """A ViT (`models/vit.py`); the defaults are those of DINO (`docs/towers.md` has the others')."""

    patch_size: Count  # pixels along each side of a patch
    image_size: Count  # pixels along each side of the image that the position embedding table is made for
    width: Count  # features per token
    depth: Count  # transformer blocks
    heads: Count  # attention heads; must divide the width
    mlp_width: Count  # hidden features of the MLP
    # How learned positions follow other image sizes (`models/position_embedding.py`).
    position_interpolation: Literal["dino", "plain", "antialias"]
    patch_dropout: Share  # share of patch tokens left out of each training image, in [0, 1)
    positions: Literal["learned", "rotary"] = "learned"  # a table added to the tokens, or DINOv3's RoPE in every block
    registers: CountOrZero = 0  # tokens beside CLS and patches that only other tokens read
    layer_scale: bool = False  # multiply what a block adds by a learned vector
    gated_mlp: bool = False  # SwiGLU instead of GELU
    tanh_gelu: bool = False  # the GELU by its tanh approximation
    map_head: bool = False  # no CLS token: SigLIP's head, which attends to the patches, makes what takes its place
    norm_eps: Positive = 1e-6  # of the LayerNorms
    # Mean and standard deviation that pixels are normalised by.
    pixel_statistics: Literal["clip", "imagenet", "siglip"] = "clip"

    @property
    def special_tokens(self) -> int:
        """Tokens before the patch tokens: CLS, if there is one, and registers."""
        return self.registers + (not self.map_head)


@dataclasses.dataclass(frozen=True)
class TextTowerConfig:
    """A T5 encoder with Sentence-T5's head (`models/t5.py`)."""

    vocabulary_size: Count  # rows of the token embedding
    width: Count  # features per token (d_model)
    depth: Count  # encoder blocks
    heads: Count  # attention heads
    head_width: Count  # features per head (d_kv)
    mlp_width: Count  # hidden features of the MLP (d_ff)
    gated_mlp: bool  # gated GELU (T5 1.1) instead of ReLU (T5)
    relative_buckets: Buckets  # buckets of the relative position bias
    relative_max_distance: Count  # distance from which on all positions share the last bucket
    embedding_width: Count  # features of the sentence embedding
    dropout: Share  # rate of every dropout in training, but that of the attention weights
    # Rate of the dropout of attention weights; -1 for that of the others. With 0, GPUs attend in one kernel.
    attention_dropout: ShareOrSame = -1.0


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """CLIPpy: the two towers and what joins them (`models/clippy.py`)."""

    image: ImageTowerConfig
    text: TextTowerConfig
    # tokens → image embedding (`models/pooling.py`)
    pooling: Literal["max", "max_with_cls", "avg", "cls", "cls_and_avg"]
    image_projection: bool  # a linear map of each image token from the tower's width to `token_width`
    precision: Literal["float32", "tensorfloat32", "bfloat16"]  # of the matrix products; parameters stay float32
    rematerialise: bool  # recompute each block in the backward pass instead of keeping its activations

    @property
    def token_width(self) -> int:
        """Features of an image token as it is pooled: with "cls_and_avg", half of those of an embedding."""
        return self.text.embedding_width // (2 if self.pooling == "cls_and_avg" else 1)


@dataclasses.dataclass(frozen=True)
class InitConfig:
    """Weights that the parameters start from: paths or names on the hub; "" keeps the random initialisation."""

    image: str  # a DINO, DINOv2, DINOv3 or SigLIP checkpoint, or a whole CLIPpy to take the image tower of
    text: str  # a sentence-transformers folder, or a whole CLIPpy to take the text tower of
    clippy: str  # a whole CLIPpy: clippy_5k.pt, a converted folder or the workdir of a run


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """The training input (`input_pipeline/`)."""

    train: str  # tars (path or address), .csv / .tsv table, "tfds:NAME" or "synthetic"; several joined by "::"
    tokenizer: str  # folder with spiece.model or tokenizer.json, or a name on the hub
    batch_size: Count  # image-caption pairs of one step, over all devices of all processes
    image_size: Count  # pixels along each side of a training image
    crop_scale: tuple[Positive, Positive]  # share of the image's area that a random crop covers
    crop_ratio: tuple[Positive, Positive]  # width / height of a random crop
    flip: bool  # mirror half of the images
    text_length: Count  # tokens that a caption is cut to, and of a row that captions share
    texts_per_pack: Count  # captions that share rows; 1 gives each a row of its own
    clean_captions: bool  # ftfy, html-unescape twice, collapse white space
    index_folder: str  # where shard indexes are cached; "" for beside the shards
    seed: Seed  # of the sample order and the augmentation
    image_column: str = ""  # of tables: the column of image paths; "" for the usual names (`datasets/table_rows.py`)
    caption_column: str = ""  # and the one of captions
    max_pixels: Pixels = 2**26  # an image with more is not used
    max_bad_fraction: Fraction = 1.0  # of the samples that cannot be used; with more the run stops
    ledger: bool = False  # write a digest of the samples of every step into the workdir (`run/ledger.py`)
    # The folder of what a frozen image tower makes of the training images (`clippy_jax.encode_images` writes it), which
    # is read in their place; "" for the images.
    image_features: str = ""
    image_features_dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of the numbers in that folder


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The contrastive loss (`training/losses/contrastive.py`)."""

    # "ring" is "softmax" in memory linear in the batch, for 32k pairs and more; "sigmoid" is SigLIP's.
    kind: Literal["softmax", "ring", "sigmoid"]
    reduction: Literal["mean", "sum"]  # of the image-to-text and the text-to-image direction; "sigmoid" has neither


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (`training/optimizer.py`)."""

    beta1: Share
    beta2: Share
    eps: Positive
    weight_decay: PositiveOrZero  # on matrices and embeddings, never on biases, norms and the logit scale
    gradient_clip_norm: PositiveOrZero  # largest global norm of the gradient; 0 for no clipping
    freeze: tuple[Literal["image", "text"], ...]  # towers that keep their weights


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up, then a cosine to zero, cut off where training stops (`training/schedule.py`)."""

    peak_learning_rate: PositiveOrZero
    warmup_steps: CountOrZero
    decay_steps: Count  # step at which the cosine reaches zero
    stop_step: Count  # step after which training ends, however far the cosine has come


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When the train state is saved and which saves are kept (`run/checkpointing.py`)."""

    every_steps: CountOrZero  # 0 for not by steps
    every_minutes: PositiveOrZero  # 0 for not by the clock
    keep: Count  # the newest so many
    keep_every_steps: CountOrZero  # and every one at a multiple of so many steps, for good; 0 for none
    # steps that damaged checkpoints may cost before a run refuses to go on; 0: any number
    max_steps_lost: CountOrZero = 0


@dataclasses.dataclass(frozen=True)
class WandbConfig:
    """Weights & Biases."""

    project: str  # "" for off
    name: str  # of the run; "" for the name of the workdir


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """One evaluation during training."""

    path: str  # the folder or file of its data; "" for off
    every_steps: CountOrZero  # 0 for at the end only


@dataclasses.dataclass(frozen=True)
class EvalsConfig:
    """Evaluations during training (`evaluators/periodic.py`)."""

    batch_size: Count
    image_size: Count  # pixels along each side of an evaluation image
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
    seed: Seed  # of the initial parameters, dropout and patch dropout
    microbatches: Count  # parts in which each device encodes its pairs, to save memory (`training/microbatches.py`)
    parameter_sharding: Literal["replicated", "fsdp"]  # of parameters and optimizer state over the devices
    log_every_steps: Count
    profile_steps: tuple[Count, ...]  # (first, last): steps whose trace is written; () for none
    # How many updates of a loss or gradient that is not finite are left out before the run stops (`divergence/`).
    skip_nonfinite_updates: CountOrZero = 0
    # images and tokens of the batch at which the run stops, beside its samples' names
    save_diverged_batch: bool = False


def parse(values: Mapping[str, Any]) -> Config:
    """Checks a nested mapping (a `ConfigDict`, or the JSON in a workdir) against the schema.

    Raises:
      InputError: a key is unknown or missing, a value has the wrong type or range, or two fields contradict each other.
    """
    config = parse_value(values, Config, "config")
    _check_model(config.model)
    _check_training(config)
    return config


def parse_model(values: Mapping[str, Any]) -> ModelConfig:
    """The same for the `model` group alone."""
    model = parse_value(values, ModelConfig, "model")
    _check_model(model)
    return model


def _check_model(model: ModelConfig) -> None:
    """Raises `InputError` where two fields of a model contradict each other."""
    image, text = model.image, model.text
    _require(
        image.width % image.heads == 0,
        f"model.image.width is {image.width}, which its {image.heads} heads do not divide",
    )
    check_image_size(image.image_size, image, "model.image.image_size")
    _require(
        text.relative_max_distance > text.relative_buckets // 4,
        f"model.text.relative_max_distance is {text.relative_max_distance}; with {text.relative_buckets} buckets it "
        f"must be above {text.relative_buckets // 4}",
    )
    _require(
        image.positions == "learned" or image.width % (4 * image.heads) == 0,
        f"model.image.width is {image.width}: rotary positions want a multiple of 4 features in each of "
        f"{image.heads} heads",
    )
    _require(
        not (image.gated_mlp and (image.tanh_gelu or image.map_head)),
        "model.image.gated_mlp has no GELU, and no MAP head that goes with it: set tanh_gelu=False and map_head=False",
    )
    halves = 2 if model.pooling == "cls_and_avg" else 1
    advice = "set model.image_projection=True or make them equal"
    if halves == 2:
        advice = f"with model.pooling={model.pooling} set the latter to {2 * image.width}, or to any even number with "
        advice += "model.image_projection=True"
    _require(
        text.embedding_width % halves == 0 and (model.image_projection or halves * image.width == text.embedding_width),
        f"model.image.width is {image.width} and model.text.embedding_width {text.embedding_width}: {advice}",
    )


def check_image_size(size: int, image: ImageTowerConfig, key: str) -> None:
    """Raises `InputError` if the patch size does not divide an image size; `key` names its field or flag."""
    if size < 1 or size % image.patch_size:
        raise InputError(
            f"{key} is {size}, which patches of {image.patch_size} pixels do not divide; "
            f"use {max(1, round(size / image.patch_size)) * image.patch_size}"
        )


def values_by_name(values: Any, name: str = "config") -> dict[str, Any]:
    """Every value of a nested mapping by the name that overrides it: `config.model.image.width` → 768."""
    if not isinstance(values, Mapping):
        return {name: values}
    return {path: value for key in values for path, value in values_by_name(values[key], f"{name}.{key}").items()}


def _check_training(config: Config) -> None:
    init, data, schedule, profile = config.init, config.input, config.schedule, config.profile_steps
    check_image_size(data.image_size, config.model.image, "config.input.image_size")
    check_image_size(config.evals.image_size, config.model.image, "config.evals.image_size")
    _require(data.train, "config.input.train is empty; name the training data, like '/data/cc12m/{00000..01242}.tar'")
    _require(data.tokenizer, "config.input.tokenizer is empty; name a folder with spiece.model or tokenizer.json")
    for name, (low, high), most in (("scale", data.crop_scale, 1.0), ("ratio", data.crop_ratio, math.inf)):
        _require(
            low <= high <= most,
            f"config.input.crop_{name} must be (low, high) with low <= high <= {most}, not {(low, high)}",
        )
    if data.image_features:
        _check_image_features(config)
    _require(
        schedule.decay_steps >= schedule.warmup_steps,
        f"config.schedule.decay_steps is {schedule.decay_steps}, before the end of the warm-up; "
        f"it must be at least config.schedule.warmup_steps={schedule.warmup_steps}",
    )
    _require(
        profile == () or (len(profile) == 2 and profile[0] <= profile[1]),
        f"config.profile_steps must be () or (first, last) with first <= last, not {profile}",
    )
    _require(
        not (init.clippy and (init.image or init.text)),
        "config.init.clippy brings both towers: leave config.init.image and config.init.text empty",
    )


def _check_image_features(config: Config) -> None:
    """The image tower must make the same of a sample in every step."""
    key, data = "config.input.image_features", config.input
    _require(
        "image" in config.optimizer.freeze,
        f"{key}: features of an image tower that is trained would be old after a step; "
        "set config.optimizer.freeze=('image',) or leave the features out",
    )
    _require(
        data.crop_scale == data.crop_ratio == (1, 1) and not data.flip,
        f"{key}: training images are cut out at random, so each step needs features of its own; set "
        "config.input.crop_scale=(1.0,1.0), crop_ratio=(1.0,1.0) and flip=False, which take the largest central square",
    )
    _require(
        config.model.image.patch_dropout == 0,
        f"{key}: patches are left out at random; set config.model.image.patch_dropout=0.0",
    )


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise InputError(otherwise)
