"""The softmax contrastive loss in memory linear in the batch: for global batches of 32k pairs and more.

The same function as `softmax.py`. There, a device holds the logits of its images with all texts; here it sees them
block by block (`ring.py`), keeps a running logsumexp of each row and column, and computes each block once more for the
gradient.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from clippy_jax.training.losses.ring import LOGITS_AT_ONCE, around_the_ring
from clippy_jax.training.losses.softmax import pair_logits

_SPLIT, _SAME = PartitionSpec("data"), PartitionSpec()


# The gradient is given for the whole, outside of `shard_map`: one for its inside would miss the sums over devices.
@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def ring_softmax_loss(
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    logit_scale: Float[Array, ""],
    reduction: Literal["mean", "sum"],
    mesh: Mesh,
    logits_at_once: int = LOGITS_AT_ONCE,
) -> Float[Array, ""]:
    """Symmetric softmax cross entropy of the global batch; see `softmax_contrastive_loss`.

    `logits_at_once` bounds the block that a device of the mesh holds, besides a few times its share of the features.
    """
    return _forward(image, text, logit_scale, reduction, mesh, logits_at_once)[0]


def _forward(image, text, logit_scale, reduction, mesh, logits_at_once):
    def on_device(image, text, logit_scale):
        def visit(image, text, row, column):
            logits = pair_logits(image, text, logit_scale)
            row = jnp.logaddexp(row, jax.nn.logsumexp(logits, axis=1))
            return row, jnp.logaddexp(column, jax.nn.logsumexp(logits, axis=0))

        none = jnp.full(len(image), -jnp.inf)
        row, column = around_the_ring(visit, image, text, none, none, logits_at_once)
        matching = jnp.exp(logit_scale) * (image * text).sum(axis=1)
        return jax.lax.psum(((row - matching) + (column - matching)).sum(), "data"), row, column

    sharded = jax.shard_map(on_device, mesh=mesh, in_specs=(_SPLIT, _SPLIT, _SAME), out_specs=(_SAME, _SPLIT, _SPLIT))
    total, row, column = sharded(image, text, logit_scale)
    return total * _weight(image, reduction), (image, text, logit_scale, row, column)


def _backward(reduction, mesh, logits_at_once, saved, loss_gradient):
    def on_device(image, text, logit_scale, row, column, weight):
        def visit(rows, columns, image_gradient, text_gradient):
            (image, row), (text, column) = rows, columns
            logits = pair_logits(image, text, logit_scale)
            # Of the text given the image, plus that of the image given the text.
            probability = jnp.exp(logits - row[:, None]) + jnp.exp(logits - column)
            image_gradient += jnp.einsum("it,tD->iD", probability, text, precision=jax.lax.Precision.HIGHEST)
            text_gradient += jnp.einsum("it,iD->tD", probability, image, precision=jax.lax.Precision.HIGHEST)
            return image_gradient, text_gradient

        zeros = jnp.zeros(image.shape), jnp.zeros(text.shape)
        image_gradient, text_gradient = around_the_ring(visit, (image, row), (text, column), *zeros, logits_at_once)
        factor = weight * jnp.exp(logit_scale)
        image_gradient, text_gradient = factor * (image_gradient - 2 * text), factor * (text_gradient - 2 * image)
        # The loss depends on the scale as on the length of all images together.
        return image_gradient, text_gradient, jax.lax.psum((image * image_gradient).sum(), "data")

    weight = loss_gradient * _weight(saved[0], reduction)
    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(_SPLIT, _SPLIT, _SAME, _SPLIT, _SPLIT, _SAME),
        out_specs=(_SPLIT, _SPLIT, _SAME),
    )(*saved, weight)


ring_softmax_loss.defvjp(_forward, _backward)


def _weight(image: Float[Array, "B D"], reduction: Literal["mean", "sum"]) -> float:
    """Of each row and each column in the loss."""
    return {"mean": 0.5, "sum": 1.0}[reduction] / len(image)
