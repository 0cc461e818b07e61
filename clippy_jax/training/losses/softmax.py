"""The contrastive loss of CLIP over the global batch."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def softmax_contrastive_loss(
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    logit_scale: Float[Array, ""],
    reduction: Literal["mean", "sum"],
) -> Float[Array, ""]:
    """Symmetric softmax cross entropy: each image against all texts, each text against all images (paper, section 3.1).

    Written as if there were one device: under `jax.jit`, with the batch sharded over a mesh, this is the exact loss of
    the global batch. Each direction is a mean over its B rows; `reduction` joins the two (the paper sums, the public
    code takes the mean). `logit_scale` is the logarithm of the factor on the cosine similarities.
    """
    logits = pair_logits(image, text, logit_scale)
    # The diagonal is a product of matching rows: taking it from the sharded matrix would move the matrix.
    matching = jnp.exp(logit_scale) * (image * text).sum(axis=1)
    image_to_text = (jax.nn.logsumexp(logits, axis=1) - matching).mean()
    text_to_image = (jax.nn.logsumexp(logits, axis=0) - matching).mean()
    total = image_to_text + text_to_image
    return total / 2 if reduction == "mean" else total


def pair_logits(
    image: Float[Array, "i D"], text: Float[Array, "t D"], logit_scale: Float[Array, ""]
) -> Float[Array, "i t"]:
    """The scaled cosine similarity of each image with each text, exact also where the towers are not."""
    return jnp.exp(logit_scale) * jnp.einsum("iD,tD->it", image, text, precision=jax.lax.Precision.HIGHEST)
