"""Batches at the edge of what a loss can be computed of."""

import itertools
import pathlib
from collections.abc import Iterator

import jax
import numpy as np

from clippy_jax.input_pipeline.text_packing import fill_rows, find_packing
from clippy_jax.mesh import make_mesh
from clippy_jax.training.optimizer import make_optimizer
from clippy_jax.training.state import init_state
from clippy_jax.training.step import make_train_step
from tests import small_run
from tools.soak.promises import Promise

_STEPS = 20
_LENGTH = 16


def _batches(size: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and token ids, by what is special about them."""
    drawn = np.random.default_rng(0)
    images = drawn.integers(0, 256, (size, 32, 32, 3), np.uint8)
    tokens = np.zeros((size, _LENGTH), np.int32)
    tokens[:, :5], tokens[:, 5] = drawn.integers(3, 50, (size, 5)), 1
    empty = np.zeros_like(tokens)
    empty[:, 0] = 1  # the end of the text alone
    return {
        "identical captions": (images, np.repeat(tokens[:1], size, 0)),
        "identical pairs": (np.repeat(images[:1], size, 0), np.repeat(tokens[:1], size, 0)),
        "black images": (np.zeros_like(images), tokens),
        "white images": (np.full_like(images, 255), tokens),
        "empty captions": (images, empty),
        "black images, empty captions": (np.zeros_like(images), empty),
    }


def _finite(folder: pathlib.Path) -> Iterator[str]:
    mesh = make_mesh()
    kinds = [("softmax", "float32"), ("softmax", "bfloat16"), ("ring", "float32"), ("sigmoid", "float32")]
    for size, (loss, precision) in itertools.product((1, 8), kinds):
        fields = dict(loss__kind=loss, model__precision=precision, input__texts_per_pack=1)
        config = small_run.config(folder.parent / "data", **fields)
        optimizer = make_optimizer(config.optimizer, config.schedule)
        step = jax.jit(make_train_step(config, mesh))
        first = init_state(config.model, config.loss, 32, optimizer, (), jax.random.key(0))
        for name, (images, tokens) in _batches(size).items():
            state, fault = first, ""
            texts = fill_rows(find_packing(tokens, 1, 1), 1)
            for number in range(_STEPS):
                state, metrics = step(state, images, texts)
                values = {key: float(value) for key, value in metrics.items()}
                whole = all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(state.params))
                if not whole or not all(map(np.isfinite, values.values())):
                    fault = f"{name}, {size} pairs, {loss}, {precision}: step {number + 1}: {values}"
                    break
            yield fault


PROMISES = (
    Promise(
        "identical captions, black images, empty captions, a batch of one: every number stays finite",
        f"{_STEPS} steps of every loss in float32, of softmax in bfloat16 as well; loss, gradient, parameters",
        _finite,
    ),
)
