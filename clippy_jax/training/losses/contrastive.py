"""Which contrastive loss a run has, and the parameters that are the loss's own."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from clippy_jax.config import LossConfig
from clippy_jax.training.losses.ring_softmax import ring_softmax_loss
from clippy_jax.training.losses.sigmoid import sigmoid_contrastive_loss
from clippy_jax.training.losses.softmax import softmax_contrastive_loss


def contrastive_loss(
    image: Float[Array, "B D"], text: Float[Array, "B D"], params: Mapping[str, Any], config: LossConfig, mesh: Mesh
) -> Float[Array, ""]:
    """The loss of the global batch.

    Args:
      image: unit image embeddings, split over `mesh`.
      text: unit text embeddings; row i is the text of image i.
      params: a run's parameters, of which those at the top level are read: `logit_scale`, and `logit_bias` if it is
        the sigmoid loss.
      config: which loss.
      mesh: the devices.
    """
    match config.kind:
        case "softmax":
            return softmax_contrastive_loss(image, text, params["logit_scale"], config.reduction)
        case "ring":
            return ring_softmax_loss(image, text, params["logit_scale"], config.reduction, mesh)
        case "sigmoid":
            return sigmoid_contrastive_loss(image, text, params["logit_scale"], params["logit_bias"], mesh)
    raise ValueError(f"unknown loss {config.kind!r}")


def initial_loss_params(config: LossConfig) -> dict[str, Float[Array, ""]]:
    """What the loss adds to the parameters of `CLIPpy`, or starts differently.

    The sigmoid loss has a bias, which is no part of the model: nothing but this loss reads it, and no weights bring it.
    It and the scale start as SigLIP's, so that the many pairs that do not match weigh little at first.
    """
    if config.kind == "sigmoid":
        return {"logit_scale": jnp.float32(math.log(10)), "logit_bias": jnp.float32(-10)}
    return {}
