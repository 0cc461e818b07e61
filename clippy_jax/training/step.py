"""The training step: loss → gradient → update → clamp.

One pure function of the global batch. How many devices share the work is decided outside, by the shardings of its
arguments (`mesh.py`); nothing here depends on it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, UInt8

from clippy_jax.config import Config
from clippy_jax.models.clippy import MAX_LOGIT_SCALE, CLIPpy
from clippy_jax.models.packed_texts import PackedTexts
from clippy_jax.training.activations import activations_stay
from clippy_jax.training.losses.contrastive import contrastive_loss
from clippy_jax.training.microbatches import encode_in_microbatches
from clippy_jax.training.optimizer import make_optimizer, split_frozen
from clippy_jax.training.schedule import learning_rate
from clippy_jax.training.state import TrainState

Metrics = dict[str, Float[Array, ""]]
Images = UInt8[Array, "B H W 3"] | Float[Array, "B T D"]  # or what is left of them by a frozen tower


def make_loss_gradient(
    config: Config, mesh: Mesh
) -> Callable[[TrainState, Images, PackedTexts], tuple[Float[Array, ""], dict[str, Any]]]:
    """(state, images, texts) → (loss, its gradient for the parameters that are trained), as a step takes it.

    The losses that send embeddings around need to know the devices: `mesh`.
    """
    model = CLIPpy(config.model)
    replicas = mesh if config.parameter_sharding == "replicated" else None

    def encode(method, params, inputs, key):
        with activations_stay(mesh, config.parameter_sharding):
            return model.apply({"params": params}, inputs, train=True, rngs={"dropout": key}, method=method)

    def encode_images(params, images, key):
        if images.ndim == 3:  # features of a frozen tower (`input_pipeline/image_features.py`)
            return model.apply({"params": params}, images, method="encode_features")
        return encode("encode_image", params, images, key)[1]

    def encode_texts(params, texts, key):
        return encode("encode_packed_texts", params, texts, key)

    def loss_gradient(state, images, texts):
        trained, frozen = split_frozen(state.params, config.optimizer.freeze)
        dropout_key = jax.random.fold_in(state.key, state.step)

        def loss_of(trained):
            params = {**trained, **frozen}

            def embeddings(encode, inputs):
                return encode_in_microbatches(encode, config.microbatches, params, inputs, dropout_key, replicas)

            # One tower after the other, so that the gradients of one microbatch are of one tower only.
            image, text = embeddings(encode_images, images), embeddings(encode_texts, texts)
            return contrastive_loss(image, text, params, config.loss, mesh)

        return jax.value_and_grad(loss_of)(trained)

    return loss_gradient


def make_train_step(
    config: Config, mesh: Mesh
) -> Callable[[TrainState, Images, PackedTexts], tuple[TrainState, Metrics]]:
    """The step function of a run: (state, images, texts) → (state, metrics).

    With `config.skip_nonfinite_updates`, a loss or gradient norm that is not finite leaves parameters and moments as
    they are; the step and the learning rate go on.
    """
    loss_gradient = make_loss_gradient(config, mesh)
    optimizer = make_optimizer(config.optimizer, config.schedule)
    rate = learning_rate(config.schedule)

    def train_step(state, images, texts):
        loss, gradient = loss_gradient(state, images, texts)
        trained, frozen = split_frozen(state.params, config.optimizer.freeze)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, trained)
        params = {**optax.apply_updates(trained, updates), **frozen}
        params["logit_scale"] = jnp.clip(params["logit_scale"], 0, MAX_LOGIT_SCALE)

        # Behind the barrier, its squares are added up as they are computed. Shared with those of Adam's second moment,
        # all of them would be written and read back.
        gradient_norm = optax.tree.norm(jax.lax.optimization_barrier(gradient))
        if config.skip_nonfinite_updates:
            finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
            params = _chosen(finite, params, state.params)
            optimizer_state = _chosen(finite, optimizer_state, state.optimizer_state)
        metrics = {
            "loss": loss,
            "logit_scale": jnp.exp(params["logit_scale"]),
            "learning_rate": rate(state.step),
            "gradient_norm": gradient_norm,
        }
        return TrainState(state.step + 1, params, optimizer_state, state.key), metrics

    return train_step


def _chosen(new_holds: Bool[Array, ""], new: Any, old: Any) -> Any:
    """`new` or `old`; but the learning rate's count of steps is always the new one."""

    def choose(new, old):
        return new if isinstance(new, optax.ScaleByScheduleState) else jnp.where(new_holds, new, old)

    return jax.tree.map(choose, new, old, is_leaf=lambda node: isinstance(node, optax.ScaleByScheduleState))
