"""The memory that a training step needs on each of several devices, from the compiled program: nothing is run.

Without a GPU the devices are eight virtual ones. The compiler of another platform arranges memory a little differently.
"""

import os
from typing import Any

# Before jax is imported.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from clippy_jax.config import Config, parse  # noqa: E402
from clippy_jax.training.optimizer import make_optimizer  # noqa: E402
from clippy_jax.training.sharding import batch_sharding, make_mesh, replicated, state_sharding  # noqa: E402
from clippy_jax.training.state import init_state  # noqa: E402
from clippy_jax.training.step import make_train_step  # noqa: E402
from configs import b16, shapes  # noqa: E402
from tools.benchmarks.report import Case, Report, environment  # noqa: E402

SIZES = {"b16": (b16, 8192), "tiny": (shapes, 64)}  # recipe, global batch
MICROBATCHES = (1, 8, 16)
PACKAGES = ("jax", "jaxlib", "flax", "optax")


def measure(size: str) -> Report:
    """The memory of a recipe's step over all devices, rematerialised, by the number of microbatches."""
    recipe, batch_size = SIZES[size]
    values = recipe.get_config()
    values.input.train, values.input.tokenizer, values.input.batch_size = "synthetic", "not read", batch_size
    values.model.rematerialise = True
    cases = []
    for count in MICROBATCHES:
        values.microbatches = count
        for part, count_of_bytes in step_memory(parse(values)).items():
            name = f"{part}, {size}, global batch {batch_size}, microbatches {count}, rematerialised"
            cases.append(Case(name, count_of_bytes / 1e9, None, "GB a device"))
    device = jax.devices()[0]
    return Report(environment(f"{jax.device_count()} x {device.device_kind}", PACKAGES), cases)


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
