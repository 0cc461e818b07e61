"""The training step of a recipe, compiled for all devices that JAX sees: nothing is run.

Without a GPU the devices are virtual ones, as many as XLA_FLAGS=--xla_force_host_platform_device_count=N says when jax
starts. The compiler of another platform arranges memory a little differently.
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from clippy_jax.config import Config, parse
from clippy_jax.mesh import batch_sharding, make_mesh, replicated, state_sharding
from clippy_jax.models.packed_texts import PackedTexts
from clippy_jax.training.optimizer import make_optimizer
from clippy_jax.training.state import init_state
from clippy_jax.training.step import make_train_step


def recipe_config(recipe: ModuleType, batch_size: int, **values: Any) -> Config:
    """The configuration of a recipe of `configs/` that rematerialises; `values` are further fields, by their paths."""
    config = recipe.get_config()
    config.input.train, config.input.tokenizer, config.input.batch_size = "synthetic", "not read", batch_size
    config.model.rematerialise = True
    config.update_from_flattened_dict(values)
    return parse(config)


def step_and_arguments(config: Config) -> tuple[Callable, tuple[Any, ...]]:
    """The jitted step of a run over all devices, and the shapes of its arguments, for the run's longest texts."""
    mesh, size = make_mesh(), config.input.image_size
    optimizer = make_optimizer(config.optimizer, config.schedule)
    state = jax.eval_shape(
        lambda key: init_state(config.model, config.loss, size, optimizer, config.optimizer.freeze, key),
        jax.random.key(0),
    )
    shardings = state_sharding(state, mesh, config.parameter_sharding)
    state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings)
    batch, split = config.input.batch_size, batch_sharding(mesh)
    texts = math.gcd(config.input.texts_per_pack, batch // (mesh.size * config.microbatches))
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8, sharding=split)
    # Of texts that fill the text length, each takes a row.
    tokens = jax.ShapeDtypeStruct((batch // texts, texts, config.input.text_length), jnp.int32, sharding=split)
    positions = jax.ShapeDtypeStruct((batch // texts, texts), jnp.int32, sharding=split)
    step = jax.jit(make_train_step(config, mesh), donate_argnums=0, out_shardings=(shardings, replicated(mesh)))
    return step, (state, images, PackedTexts(tokens, tokens, positions))


def memory(compiled: jax.stages.Compiled) -> dict[str, int]:
    """Bytes on each device: the state with the batch, what the step needs besides, and both together."""
    analysis = compiled.memory_analysis()
    state = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return {
        "state and batch": state,
        "temporary": analysis.temp_size_in_bytes,
        "peak": state + analysis.temp_size_in_bytes,
    }
