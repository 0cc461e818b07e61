"""Which numbers dropout keeps: four answers from one hash of an index.

Threefry-2x32 with 20 rounds (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011), as JAX has it, of
JAX's keys. `jax.random` makes one number of its 64 bits, and on a CPU a loop that writes what comes out of every group
of rounds to memory. Laid out flat, the rounds become one kernel.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key, UInt8, UInt32

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def below(limit: int, key: Key[Array, ""], shape: tuple[int, ...]) -> UInt8[Array, "*rows quarter"]:
    """Whether random numbers of 16 bits are below a limit, four answers a byte: bit i is for quarter i of a row."""
    *others, width = shape
    quarter = (*others, -(-width // 4))
    if _is_ours(key, quarter):
        words = _words(key, quarter)
    else:
        words = jax.random.bits(key, (2, *quarter))
    numbers = [(word >> np.uint32(shift)) & np.uint32(0xFFFF) for word in words for shift in (0, 16)]
    bits = [(number < limit).astype(jnp.uint8) << np.uint8(i) for i, number in enumerate(numbers)]
    # Behind the barrier, all four come from one hash. Computed where they are needed, each would take one.
    return jax.lax.optimization_barrier(bits[0] | bits[1] | bits[2] | bits[3])


def unpacked(answers: UInt8[Array, "*rows quarter"], width: int) -> Bool[Array, "*rows width"]:
    """The answers of `below`, one by one, for rows of a width."""
    if jax.default_backend() == "cpu":  # for which the other way makes no vector instructions
        bits = jnp.concatenate([answers & np.uint8(1 << i) for i in range(4)], axis=-1)
    else:
        bits = (answers[..., None, :] & np.array([[1], [2], [4], [8]], np.uint8)).reshape(*answers.shape[:-1], -1)
    return bits[..., :width] != 0


def _is_ours(key: Key[Array, ""], shape: tuple[int, ...]) -> bool:
    # JAX's older way of counting is an option that newer versions drop.
    partitionable = getattr(jax.config, "jax_threefry_partitionable", True)
    return jax.random.key_impl(key) == "threefry2x32" and partitionable and math.prod(shape) < 2**32


def _words(key: Key[Array, ""], shape: tuple[int, ...]) -> tuple[UInt32[Array, "*shape"], UInt32[Array, "*shape"]]:
    """The hash of (0, index), for each index of the flattened array."""
    strides = np.cumprod((1, *shape[:0:-1]), dtype=np.uint32)[::-1]
    # Sums of indices along each dimension: of these, every device computes those of its part of the array.
    indices = [
        jax.lax.broadcasted_iota(jnp.uint32, shape, i) * stride for i, stride in enumerate(strides[: len(shape)])
    ]
    key0, key1 = jax.random.key_data(key)
    keys = (key0, key1, key0 ^ key1 ^ _PARITY)
    left, right = jnp.broadcast_to(key0, shape), sum(indices, start=jnp.zeros(shape, jnp.uint32)) + key1
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            left = left + right
            right = left ^ ((right << np.uint32(distance)) | (right >> np.uint32(32 - distance)))
        left, right = left + keys[(group + 1) % 3], right + keys[(group + 2) % 3] + np.uint32(group + 1)
    return left, right
