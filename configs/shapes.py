"""A small CLIPpy on the embedded Shapes data, from random weights, in minutes on two CPU cores.

The same program, reader, loss and optimizer as `configs/b16.py`; only what a laptop needs differs.
"""

import pathlib
import runpy

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Every field of `clippy_jax.config.Config`."""
    config = runpy.run_path(str(pathlib.Path(__file__).with_name("b16.py")))["get_config"]()

    # 12 x 12 patch tokens over an image that is enlarged by half: fine enough for the outlines, and each patch still
    # holds a piece of a pattern. Training sees 17 of the 144, so that most patches of an object have to know its name
    # and not just one: the paper's token sub-sampling, driven further because nothing here was pretrained.
    config.model.image.patch_size = 8
    config.model.image.image_size = 96
    config.model.image.width = 128
    config.model.image.depth = 4
    config.model.image.heads = 4
    config.model.image.mlp_width = 256
    config.model.image.patch_dropout = 0.88
    config.model.text.vocabulary_size = 128  # the embedded tokenizer has 60
    config.model.text.width = 128
    config.model.text.depth = 2
    config.model.text.heads = 4
    config.model.text.head_width = 32
    config.model.text.mlp_width = 256
    config.model.text.embedding_width = 128
    config.model.text.dropout = 0.0  # a few thousand captions cannot be learned by heart in so few steps
    config.model.pooling = "max"  # the paper's; "cls" shows what it is good for
    config.model.rematerialise = False

    config.input.train = "data/shapes/train/{00000..00009}.tar"
    config.input.tokenizer = "data/shapes/tokenizer"
    config.input.batch_size = 64
    config.input.image_size = 96
    config.input.flip = True
    config.input.text_length = 32
    config.input.texts_per_pack = 8

    config.optimizer.beta2 = 0.98  # a shorter memory for a shorter run
    config.optimizer.weight_decay = 0.05
    config.optimizer.gradient_clip_norm = 1.0
    config.schedule.peak_learning_rate = 2e-3
    config.schedule.warmup_steps = 100
    config.schedule.decay_steps = 2_000
    config.schedule.stop_step = 2_000

    config.checkpoint.every_steps = 1_000
    config.checkpoint.every_minutes = 5.0
    config.checkpoint.keep = 2
    config.checkpoint.keep_every_steps = 0

    config.evals.batch_size = 64
    config.evals.image_size = 96
    config.evals.tasks.imagenet.path = "data/shapes/imagenet/val"
    config.evals.tasks.imagenet.every_steps = 1_000
    config.evals.tasks.voc.path = "data/shapes/voc"
    config.evals.tasks.voc.every_steps = 1_000
    config.log_every_steps = 50

    return config
