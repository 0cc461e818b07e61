"""A training configuration around the tiny model, and a batch for it."""

import dataclasses
import pathlib
import runpy

from clippy_jax.config import Config, LossConfig, ModelConfig, OptimizerConfig, ScheduleConfig, parse
from clippy_jax.input_pipeline.text_packing import fill_rows, find_packing
from tests.models import configurations
from tests.models.test_t5 import random_tokens
from tests.models.test_vit import random_images

OPTIMIZER = OptimizerConfig(
    beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.2, gradient_clip_norm=0.0, freeze=()
)  # the public recipe's
CONSTANT_RATE = ScheduleConfig(peak_learning_rate=5e-4, warmup_steps=0, decay_steps=10**9, stop_step=10)


def tiny_config(model: ModelConfig | None = None, schedule: ScheduleConfig = CONSTANT_RATE, **optimizer) -> Config:
    """The demo's configuration with the tiny model and the public optimizer, fields of which may be replaced."""
    demo = runpy.run_path(str(pathlib.Path(__file__).parents[2] / "configs" / "shapes.py"))["get_config"]()
    return dataclasses.replace(
        parse(demo),
        model=model or configurations.model(),
        loss=LossConfig("softmax", "mean"),
        optimizer=dataclasses.replace(OPTIMIZER, **optimizer),
        schedule=schedule,
    )


def batch(size: int = 8):
    """uint8 images and token ids of `size` pairs."""
    lengths = [2 + i % 7 for i in range(size)]
    return random_images(size, 32, 48, seed=1), random_tokens(lengths, 8, seed=1)


def packed(tokens, microbatches: int = 1):
    """Texts in packs of two, as the step takes them; at most two rows each."""
    packing = find_packing(tokens, 2, microbatches)
    return fill_rows(packing, packing.rows)
