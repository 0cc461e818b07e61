"""AdamW as the public recipe sets it up."""

from typing import Any

import jax
import optax

from clippy_jax.config import OptimizerConfig, ScheduleConfig
from clippy_jax.training.schedule import learning_rate

# Parameters without weight decay, by a word of their path. The public code exempts whatever has fewer than two
# dimensions or "bias" in its name. Stacked layers have a dimension more, so here the name decides: `scale` belongs to
# the norms, and the relative position bias is exempt although a matrix. CLS token and position embedding do decay.
UNDECAYED = ("bias", "scale", "logit_scale", "logit_bias", "relative_position_bias")


def make_optimizer(config: OptimizerConfig, schedule: ScheduleConfig) -> optax.GradientTransformation:
    """Clipping by the global norm (if any), Adam moments, decoupled weight decay, learning rate."""
    adamw = optax.adamw(
        learning_rate(schedule),
        b1=config.beta1,
        b2=config.beta2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        mask=decay_mask,
    )
    if config.gradient_clip_norm > 0:
        return optax.chain(optax.clip_by_global_norm(config.gradient_clip_norm), adamw)
    return adamw


def decay_mask(params: Any) -> Any:
    """A tree like `params` that is true where weight decay applies."""
    return jax.tree_util.tree_map_with_path(lambda path, _: not any(entry.key in UNDECAYED for entry in path), params)


def split_frozen(params: dict[str, Any], freeze: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parts `params` into what is trained and the towers that `freeze` names."""
    trained = {name: value for name, value in params.items() if name not in freeze}
    frozen = {name: value for name, value in params.items() if name in freeze}
    return trained, frozen
