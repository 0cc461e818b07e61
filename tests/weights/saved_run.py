"""A run's workdir as training leaves it, with random parameters and moments."""

import dataclasses
import functools
import json

import jax
import numpy as np

from clippy_jax.mesh import make_mesh, state_sharding
from clippy_jax.run.checkpointing import Checkpointer
from clippy_jax.training.optimizer import make_optimizer
from clippy_jax.training.state import init_state


def random_state(config, step):
    """A state in which every moment is something."""
    optimizer = make_optimizer(config.optimizer, config.schedule)
    make = functools.partial(init_state, config.model, config.loss, 224, optimizer, config.optimizer.freeze)
    rng = np.random.default_rng(step)

    def fill(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(step)
        if np.issubdtype(leaf.dtype, np.integer):
            return np.array(step, leaf.dtype)
        return np.abs(rng.normal(size=leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(fill, jax.eval_shape(make, jax.random.key(0)))


def save_run(workdir, config, steps):
    """A run with a checkpoint after each of some steps, spread over eight devices; returns their states."""
    states = {step: random_state(config, step) for step in steps}
    with Checkpointer(workdir, dataclasses.replace(config.checkpoint, keep=5), 1) as checkpointer:
        for step, state in states.items():
            checkpointer.save(step, jax.device_put(state, state_sharding(state, make_mesh(), "fsdp")))
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    (workdir / "tokenizer").mkdir()
    return states
