"""The random numbers of `jax.random.uniform`, in a form that XLA's CPU compiler computes in one pass.

JAX's own on a CPU is a loop over groups of the hash's rounds, which keeps compilation short and writes every group's
numbers to memory. Laid out flat, the rounds become one kernel.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32

# Threefry-2x32 with 20 rounds (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def uniform(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    """`jax.random.uniform(key, shape)`, number for number: float32 in [0, 1)."""
    # JAX's older way of counting is an option that newer versions drop.
    partitionable = getattr(jax.config, "jax_threefry_partitionable", True)
    like_ours = jax.random.key_impl(key) == "threefry2x32" and partitionable
    if not like_ours or math.prod(shape) >= 2**32:
        return jax.random.uniform(key, shape)
    strides = np.cumprod((1, *shape[:0:-1]), dtype=np.uint32)[::-1]
    # Sums of indices along each dimension: of these, every device computes those of its part of the array.
    counts = [jax.lax.broadcasted_iota(jnp.uint32, shape, i) * stride for i, stride in enumerate(strides[: len(shape)])]
    bits = _hash(*jax.random.key_data(key), sum(counts, start=jnp.zeros(shape, jnp.uint32)))
    # The upper 23 bits are the digits of a number in [1, 2).
    digits = (bits >> np.uint32(9)) | np.float32(1).view(np.uint32)
    return jax.lax.bitcast_convert_type(digits, jnp.float32) - 1


def _hash(key0: UInt32[Array, ""], key1: UInt32[Array, ""], count: UInt32[Array, "*n"]) -> UInt32[Array, "*n"]:
    """Threefry-2x32 of (0, count), its two words made one, as JAX makes 32 bits of them."""
    keys = (key0, key1, key0 ^ key1 ^ _PARITY)
    left, right = jnp.broadcast_to(key0, count.shape), count + key1
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            left = left + right
            right = left ^ ((right << np.uint32(distance)) | (right >> np.uint32(32 - distance)))
        left, right = left + keys[(group + 1) % 3], right + keys[(group + 2) % 3] + np.uint32(group + 1)
    return left ^ right
