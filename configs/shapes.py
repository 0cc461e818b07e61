"""A small CLIPpy on the embedded Shapes data, from random weights, in minutes on two CPU cores.

The same program, reader, loss and optimizer as `configs/b16.py`; only what a laptop needs differs.
"""

import pathlib
import runpy

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Every field of `clippy_jax.config.Config`."""
    config = runpy.run_path(str(pathlib.Path(__file__).with_name("b16.py")))["get_config"]()

    config.model.image.patch_size = 4  # 16 x 16 patch tokens: fine enough for the outlines
    config.model.image.image_size = 64
    config.model.image.width = 128
    config.model.image.depth = 3
    config.model.image.heads = 4
    config.model.image.mlp_width = 512
    config.model.text.vocabulary_size = 512
    config.model.text.width = 128
    config.model.text.depth = 2
    config.model.text.heads = 4
    config.model.text.head_width = 32
    config.model.text.mlp_width = 256
    config.model.text.embedding_width = 128
    config.model.text.dropout = 0.0
    config.model.pooling = "max"  # the paper's; "cls" shows what it is good for
    config.model.rematerialise = False

    config.input.train = "data/shapes/train/{00000..00009}.tar"
    config.input.tokenizer = "data/shapes/tokenizer"
    config.input.batch_size = 64
    config.input.image_size = 64
    config.input.flip = True
    config.input.text_lengths = (8, 16, 32)

    config.optimizer.beta2 = 0.98
    config.optimizer.weight_decay = 0.05
    config.optimizer.gradient_clip_norm = 1.0
    config.schedule.peak_learning_rate = 2e-3
    config.schedule.warmup_steps = 100
    config.schedule.decay_steps = 1_000
    config.schedule.stop_step = 1_000

    config.checkpoint.every_steps = 250
    config.checkpoint.every_minutes = 5.0
    config.checkpoint.keep = 2
    config.checkpoint.keep_every_steps = 0

    config.evals.batch_size = 64
    config.evals.image_size = 64
    config.evals.imagenet.folder = "data/shapes/imagenet/val"
    config.evals.imagenet.every_steps = 500
    config.evals.voc.folder = "data/shapes/voc"
    config.evals.voc.every_steps = 500
    config.log_every_steps = 20

    return config
