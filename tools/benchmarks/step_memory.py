"""The memory that a training step needs on each of several devices, from the compiled program: nothing is run.

The devices may be virtual (`XLA_FLAGS=--xla_force_host_platform_device_count=8`). The compiler of another platform
arranges memory a little differently.
"""

from typing import Any

import jax
import jax.numpy as jnp

from clippy_jax.config import Config
from clippy_jax.training.optimizer import make_optimizer
from clippy_jax.training.sharding import batch_sharding, make_mesh, replicated, state_sharding
from clippy_jax.training.state import init_state
from clippy_jax.training.step import make_train_step


def compile_step(config: Config) -> Any:
    """The step of a run over all devices, compiled for its longest texts; `config.input` gives the batch."""
    mesh, size = make_mesh(), config.input.image_size
    optimizer = make_optimizer(config.optimizer, config.schedule)
    state = jax.eval_shape(
        lambda key: init_state(config.model, config.loss, size, optimizer, config.optimizer.freeze, key),
        jax.random.key(0),
    )
    shardings = state_sharding(state, mesh, config.parameter_sharding)
    state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings)
    batch, length, split = config.input.batch_size, config.input.text_lengths[-1], batch_sharding(mesh)
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8, sharding=split)
    tokens = jax.ShapeDtypeStruct((batch, length), jnp.int32, sharding=split)
    step = jax.jit(make_train_step(config, mesh), donate_argnums=0, out_shardings=(shardings, replicated(mesh)))
    return step.lower(state, images, tokens).compile()


def step_memory(config: Config) -> dict[str, int]:
    """Bytes on each device: the state with the batch, what the step needs besides, and both together."""
    analysis = compile_step(config).memory_analysis()
    state = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return {
        "state and batch": state,
        "temporary": analysis.temp_size_in_bytes,
        "peak": state + analysis.temp_size_in_bytes,
    }
