"""A run's workdir as a source of weights: the parameters and Adam's moments of a step, whatever mesh saved it."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from clippy_jax.config import OptimizerConfig, ScheduleConfig
from clippy_jax.errors import InputError
from clippy_jax.hub import as_path
from clippy_jax.run.checkpointing import restore_arrays
from clippy_jax.run.workdir import read_model, read_optimizer
from clippy_jax.training.schedule import learning_rate
from clippy_jax.weights.adamw import WITHOUT
from clippy_jax.weights.checkpoint import Checkpoint, Moments

_LOSS_BIAS = "logit_bias"  # of the sigmoid loss: the run's, not the model's (`training/losses/contrastive.py`)


def read_run(workdir: str, step: int | None = None, with_moments: bool = True) -> Checkpoint:
    """Reads a checkpoint of a run into host memory.

    Of the run's configuration only the model has to be of this version, and the optimizer where its moments are wanted.

    Args:
      workdir: the run's folder.
      step: which of its checkpoints; the newest by default.
      with_moments: read the optimizer's memory, too.

    Raises:
      InputError: the folder is not that of a run, or has no complete checkpoint (of this step).
    """
    model, image_size = read_model(workdir)
    tokenizer = as_path(workdir) / "tokenizer"
    parts = ("params", "optimizer_state", "step") if with_moments else ("params",)
    params, *moments = restore_arrays(workdir, parts, step)
    params.pop(_LOSS_BIAS, None)
    return Checkpoint(
        params=params,
        config=model,
        image_size=image_size,
        tokenizer=os.fspath(tokenizer) if tokenizer.is_dir() else None,
        moments=_moments(*moments, workdir) if with_moments else None,
        name=os.path.basename(os.path.normpath(workdir)),
    )


def _moments(optimizer_state: Any, step: np.ndarray, workdir: str) -> Moments:
    """Adam's after so many steps, whose updates may be fewer: some were left out."""
    adam = _find_adam(optimizer_state)
    if adam is None:
        raise InputError(f"{workdir} was not trained with Adam; {WITHOUT}")
    optimizer, schedule = _optimizer(workdir)
    settings = {
        "lr": float(learning_rate(schedule)(max(0, int(step) - 1))),  # of the last step
        "betas": (optimizer.beta1, optimizer.beta2),
        "eps": optimizer.eps,
        "amsgrad": False,
    }
    return Moments(
        step=int(adam["count"]),
        mean={name: value for name, value in adam["mu"].items() if name != _LOSS_BIAS},
        square={name: value for name, value in adam["nu"].items() if name != _LOSS_BIAS},
        groups=({**settings, "weight_decay": 0.0}, {**settings, "weight_decay": optimizer.weight_decay}),
    )


def _optimizer(workdir: str) -> tuple[OptimizerConfig, ScheduleConfig]:
    try:
        return read_optimizer(workdir)
    except InputError as error:
        raise InputError(f"{error}; {WITHOUT}") from None


def _find_adam(state: Any) -> Mapping[str, Any] | None:
    """The part of a nested optimizer state that holds Adam's moments."""
    if isinstance(state, Mapping):
        if {"count", "mu", "nu"} <= state.keys():
            return state
        state = list(state.values())
    if not isinstance(state, (list, tuple)):
        return None
    return next((adam for adam in map(_find_adam, state) if adam is not None), None)
