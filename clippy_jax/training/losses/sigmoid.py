"""The sigmoid loss of SigLIP over the global batch (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023).

Every pair of an image and a text is a question of its own: do they match? Nothing has to be normalised over the batch,
so the pairs are taken block by block (`ring.py`), whatever their number.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from clippy_jax.training.losses.ring import LOGITS_AT_ONCE, around_the_ring
from clippy_jax.training.losses.softmax import pair_logits

_SPLIT, _SAME = PartitionSpec("data"), PartitionSpec()


# The gradient is given for the whole, outside of `shard_map`: one for its inside would miss the sums over devices.
@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def sigmoid_contrastive_loss(
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    logit_scale: Float[Array, ""],
    logit_bias: Float[Array, ""],
    mesh: Mesh,
    logits_at_once: int = LOGITS_AT_ONCE,
) -> Float[Array, ""]:
    """The sum over all B x B pairs of -log sigmoid(±logit), divided by B; plus where image and text match.

    A logit is exp(`logit_scale`) times the cosine similarity, plus `logit_bias`. `logits_at_once` bounds the block that
    a device of the mesh holds, besides a few times its share of the features.
    """
    return _forward(image, text, logit_scale, logit_bias, mesh, logits_at_once)[0]


def _forward(image, text, logit_scale, logit_bias, mesh, logits_at_once):
    def on_device(image, text, logit_scale, logit_bias):
        def visit(image, text, row, nothing):
            return row + jax.nn.softplus(pair_logits(image, text, logit_scale) + logit_bias).sum(axis=1), nothing

        row, _ = around_the_ring(visit, image, text, jnp.zeros(len(image)), (), logits_at_once)
        # -log sigmoid(x) is softplus(x) - x: of the matching pairs, the second term is still missing.
        matching = jnp.exp(logit_scale) * (image * text).sum(axis=1) + logit_bias
        return jax.lax.psum((row - matching).sum(), "data")

    sharded = jax.shard_map(on_device, mesh=mesh, in_specs=(_SPLIT, _SPLIT, _SAME, _SAME), out_specs=_SAME)
    arguments = (image, text, logit_scale, logit_bias)
    return sharded(*arguments) / len(image), arguments


def _backward(mesh, logits_at_once, saved, loss_gradient):
    def on_device(image, text, logit_scale, logit_bias, weight):
        def visit(image, text, row_sums, text_gradient):
            image_gradient, row = row_sums
            probability = jax.nn.sigmoid(pair_logits(image, text, logit_scale) + logit_bias)
            image_gradient += jnp.einsum("it,tD->iD", probability, text, precision=jax.lax.Precision.HIGHEST)
            text_gradient += jnp.einsum("it,iD->tD", probability, image, precision=jax.lax.Precision.HIGHEST)
            return (image_gradient, row + probability.sum(axis=1)), text_gradient

        row_sums = jnp.zeros(image.shape), jnp.zeros(len(image))
        (image_gradient, row), text_gradient = around_the_ring(
            visit, image, text, row_sums, jnp.zeros(text.shape), logits_at_once
        )
        factor = weight * jnp.exp(logit_scale)
        image_gradient, text_gradient = factor * (image_gradient - text), factor * (text_gradient - image)
        # The loss depends on the scale as on the length of all images together.
        scale_gradient, bias_gradient = jax.lax.psum(((image * image_gradient).sum(), weight * (row - 1).sum()), "data")
        return image_gradient, text_gradient, scale_gradient, bias_gradient

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(_SPLIT, _SPLIT, _SAME, _SAME, _SAME),
        out_specs=(_SPLIT, _SPLIT, _SAME, _SAME),
    )(*saved, loss_gradient / len(saved[0]))


sigmoid_contrastive_loss.defvjp(_forward, _backward)
