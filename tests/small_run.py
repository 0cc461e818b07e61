"""A training for the tests that start the real program: a small Shapes data set and the flags of a run on it."""

import pathlib
import runpy

from clippy_jax.config import Config, parse
from clippy_jax.shapes.dataset import write_dataset
from clippy_jax.shapes.settings import Settings

ROOT = pathlib.Path(__file__).parents[1]


def flags(data: pathlib.Path, **fields) -> list[str]:
    """The flags of the training program for `values`."""
    return [f"--config={ROOT}/configs/shapes.py"] + [
        f"--config.{key}={value}" for key, value in values(data, **fields).items()
    ]


def values(data: pathlib.Path, **fields) -> dict[str, str | int | float]:
    """A model of a few thousand parameters with both kinds of dropout, a line for every step, and no evaluations.

    Args:
      data: a folder, in which the data set is rendered if it is not there yet.
      fields: more to change, with `__` for the dots: `schedule__stop_step=9`.
    """
    write_dataset(data, Settings(train_pairs=200, evaluation_images=28, image_size=32, pairs_per_shard=60), workers=1)
    image = dict(image_size=32, patch_size=8, width=32, depth=2, heads=2, mlp_width=64, patch_dropout=0.5)
    text = dict(width=32, depth=1, heads=2, head_width=16, mlp_width=64, embedding_width=32, dropout=0.1)
    chosen = {f"model.image.{name}": value for name, value in image.items()}
    chosen |= {f"model.text.{name}": value for name, value in text.items()}
    chosen |= {"input.train": f"{data}/train/{{00000..00003}}.tar", "input.tokenizer": f"{data}/tokenizer"}
    chosen |= {"input.batch_size": 16, "input.texts_per_pack": 2, "input.image_size": 32}
    chosen |= {"evals.batch_size": 16, "evals.image_size": 32}
    chosen |= {"evals.tasks.imagenet.path": "", "evals.tasks.voc.path": "", "log_every_steps": 1}
    chosen |= {"schedule.warmup_steps": 5, "schedule.decay_steps": 40}
    chosen |= {name.replace("__", "."): value for name, value in fields.items()}
    return chosen


def config(data: pathlib.Path, **fields) -> Config:
    """`values` as a configuration, for a run in the process of a test."""
    demo = runpy.run_path(str(ROOT / "configs" / "shapes.py"))["get_config"]()
    demo.update_from_flattened_dict(values(data, **fields))
    return parse(demo)
