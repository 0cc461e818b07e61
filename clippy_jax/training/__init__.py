"""The mathematics of a training step: losses, gradients, update; pure functions over pytrees."""

from clippy_jax.training.losses import contrastive_loss
from clippy_jax.training.optimizer import make_optimizer
from clippy_jax.training.schedule import learning_rate
from clippy_jax.training.state import TrainState, init_params, init_state
from clippy_jax.training.step import make_train_step

__all__ = [
    "TrainState",
    "contrastive_loss",
    "init_params",
    "init_state",
    "learning_rate",
    "make_optimizer",
    "make_train_step",
]
