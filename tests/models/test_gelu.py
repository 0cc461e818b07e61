"""GELU in bfloat16 beside its definition; in float32 the towers' tests compare it with PyTorch's."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from clippy_jax.models.gelu import gelu


def test_gelu_in_bfloat16_is_the_exact_one_rounded():
    """All bfloat16 numbers in the range where it is not trivial, to one unit in the last place, and down to 1e-8."""
    x = jnp.arange(2**16, dtype=jnp.uint16).view(jnp.bfloat16)
    x = x[(jnp.abs(x) < 8) & jnp.isfinite(x)]
    wide = np.asarray(x, np.float64)
    below = np.array([math.erfc(-value / 2**0.5) / 2 for value in wide])
    density = np.exp(-(wide**2) / 2) / (2 * np.pi) ** 0.5
    result, pull = jax.vjp(gelu, x)
    np.testing.assert_allclose(np.asarray(result, np.float64), wide * below, rtol=2**-8, atol=1e-8)
    slope = np.asarray(pull(jnp.ones_like(x))[0], np.float64)
    np.testing.assert_allclose(slope, below + wide * density, rtol=2**-8, atol=1e-6)
