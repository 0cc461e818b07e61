"""Layer normalisation (Ba et al., 2016) in few passes over the tokens, forwards and backwards."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class LayerNorm(nn.Module):
    """`nn.LayerNorm`, its statistics in float32, with a gradient that a compiler has less to do for."""

    epsilon: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return _layer_norm(self.epsilon, x.astype(self.dtype), scale, bias)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _layer_norm(epsilon, x, scale, bias):
    return _layer_norm_and_statistics(epsilon, x, scale, bias)[0]


def _layer_norm_and_statistics(epsilon, x, scale, bias):
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=-1, keepdims=True)
    rate = jax.lax.rsqrt(((wide - mean) ** 2).mean(axis=-1, keepdims=True) + epsilon)
    # The barrier has the statistics kept as arrays: a compiler would compute them again inside of each gradient.
    return ((wide - mean) * rate * scale + bias).astype(x.dtype), (
        x,
        *jax.lax.optimization_barrier((mean, rate)),
        scale,
    )


def _layer_norm_gradients(epsilon, kept, gradient):
    """From the statistics of each token, so that the sums over all tokens need no sum over a token first."""
    x, mean, rate, scale = kept
    normed, gradient = (x.astype(jnp.float32) - mean) * rate, gradient.astype(jnp.float32)
    scaled = gradient * scale
    along = scaled.mean(axis=-1, keepdims=True) + normed * (scaled * normed).mean(axis=-1, keepdims=True)
    tokens = tuple(range(x.ndim - 1))
    return (rate * (scaled - along)).astype(x.dtype), (gradient * normed).sum(axis=tokens), gradient.sum(axis=tokens)


_layer_norm.defvjp(_layer_norm_and_statistics, _layer_norm_gradients)
