"""The train state: everything a step reads and writes, and so everything a checkpoint holds."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key

from clippy_jax.config import LossConfig, ModelConfig
from clippy_jax.models.clippy import CLIPpy
from clippy_jax.training.losses.contrastive import initial_loss_params
from clippy_jax.training.optimizer import split_frozen


@flax.struct.dataclass
class TrainState:
    """A pytree; the number of updates made so far is `step`."""

    step: Int[Array, ""]
    params: dict[str, Any]
    optimizer_state: optax.OptState
    key: Key[Array, ""]  # the run's key; each step folds its number into it


def init_params(model: ModelConfig, image_size: int, key: Key[Array, ""]) -> dict[str, Any]:
    """Fresh float32 parameters of both towers."""
    images = jnp.zeros((1, image_size, image_size, 3), jnp.uint8)
    tokens = jnp.ones((1, 2), jnp.int32)
    return CLIPpy(model).init(key, images, tokens)["params"]


def init_state(
    model: ModelConfig,
    loss: LossConfig,
    image_size: int,
    optimizer: optax.GradientTransformation,
    freeze: tuple[str, ...],
    key: Key[Array, ""],
) -> TrainState:
    """The state before the first step. Frozen towers have no optimizer state."""
    init_key, run_key = jax.random.split(key)
    params = init_params(model, image_size, init_key) | initial_loss_params(loss)
    trained, _ = split_frozen(params, freeze)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(trained), run_key)
