"""Layer normalisation (Ba et al., 2016), whole, or with its scale and bias left to the linear map behind it."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from clippy_jax.models.layers import Pending


class LayerNorm(nn.Module):
    """`nn.LayerNorm`, its statistics in float32.

    With `pending`, the `Dense` behind it takes the scale and the bias into its kernel and its bias.
    The gradients of those are then all that the norm's need: otherwise, they are two more sums over all tokens.
    """

    epsilon: float
    dtype: jnp.dtype
    pending: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"] | Pending:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        x = x.astype(self.dtype)
        if self.pending:
            return Pending(_normalised(self.epsilon, x).astype(self.dtype), scale, bias)
        return (_normalised(self.epsilon, x) * scale + bias).astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalised(epsilon: float, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    """In float32."""
    return _normalised_and_rate(epsilon, x)[0]


def _normalised_and_rate(epsilon, x):
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    rate = jax.lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    return centred * rate, rate


def _normalised_gradient(epsilon, x, gradient):
    """From the tokens alone: a GPU's compiler makes one kernel of it, which reads each row once."""
    if jax.default_backend() == "gpu":  # whose forward pass would write the statistics, in a kernel of their own
        x = jax.lax.optimization_barrier(x)
    normed, rate = _normalised_and_rate(epsilon, x)
    along = gradient.mean(axis=-1, keepdims=True) + normed * (gradient * normed).mean(axis=-1, keepdims=True)
    return ((rate * (gradient - along)).astype(x.dtype),)


_normalised.defvjp(lambda epsilon, x: (_normalised(epsilon, x), x), _normalised_gradient)
