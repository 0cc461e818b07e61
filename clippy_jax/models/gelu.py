"""The exact GELU (Hendrycks and Gimpel, 2016): x times the normal distribution function of x."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def gelu(x: Float[Array, "*batch D"], tanh: bool = False) -> Float[Array, "*batch D"]:
    """The exact GELU, by the error function in float32, as PyTorch computes it; or its `tanh` approximation.

    `nn.gelu` goes by the error function's complement, which keeps digits of values that nearly vanish, and takes a CPU
    longer. For bfloat16, the error function is one of seven digits.
    """
    if tanh:
        return nn.gelu(x, approximate=True)
    if x.dtype == jnp.bfloat16:
        return _gelu_of_bfloat16(x)
    return x * (0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5))


@jax.custom_vjp
def _gelu_of_bfloat16(x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    return (x * _normal_distribution(x.astype(jnp.float32))[0]).astype(x.dtype)


def _gelu_gradient(x, gradient):
    # Times a one that the compiler does not know as one: what both passes compute of one array, it keeps in float32.
    wide = x.astype(jnp.float32) * jax.lax.optimization_barrier(jnp.float32(1))
    below, density = _normal_distribution(wide)
    return ((below + wide * density) * gradient).astype(x.dtype)


_gelu_of_bfloat16.defvjp(lambda x: (_gelu_of_bfloat16(x), x), lambda x, gradient: (_gelu_gradient(x, gradient),))


def _normal_distribution(x: Float[Array, "*batch D"]) -> tuple[Float[Array, "*batch D"], Float[Array, "*batch D"]]:
    """The normal distribution function within 1e-7, and its density: they share an exponential.

    Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), 7.1.26. The error functions of compilers take a
    GPU twice as long, which is longer than to read and write the numbers.
    """
    peak = jnp.exp(-0.5 * x * x)
    t = jax.lax.rsqrt(1 + 0.3275911 * 0.5**0.5 * jnp.abs(x)) ** 2  # 1 / (1 + ...), without a division
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = 0.5 * series * peak
    return jnp.where(x < 0, tail, 1 - tail), (2 * np.pi) ** -0.5 * peak
