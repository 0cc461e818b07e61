"""The learning rate as a function of the step."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from clippy_jax.config import ScheduleConfig


def learning_rate(config: ScheduleConfig) -> Callable[[Int[Array, ""]], Float[Array, ""]]:
    """Linear warm-up, then a cosine to zero at `decay_steps`.

    Step 0 already learns: its rate is peak / warmup_steps, as in the public training code. Where training stops
    (`stop_step`) does not bend the curve: the released CLIPpy was taken at step 5,000, half-way up its warm-up.
    """

    def rate(step: Int[Array, ""]) -> Float[Array, ""]:
        warmup = (step + 1) / max(config.warmup_steps, 1)
        progress = (step - config.warmup_steps) / max(config.decay_steps - config.warmup_steps, 1)
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))
        return config.peak_learning_rate * jnp.where(step < config.warmup_steps, warmup, cosine)

    return rate
