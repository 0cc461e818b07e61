"""Attention: plain, or in one kernel, cuDNN's, that never writes the attention weights to memory.

JAX offers the kernel on NVIDIA GPUs from Ampere on, for 16-bit numbers, without dropout of attention weights. T5 adds a
bias to its logits, which in the kernel are bfloat16 numbers as well.
"""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from clippy_jax.errors import reason

# How far rounding to bfloat16 may take the kernel's numbers and gradients from float32's, relative to their norm.
TOLERANCE = 0.03
# The bias of a key that is not attended to, as JAX takes it for cuDNN: low, and far from overflowing.
RULED_OUT = -(2.0**41)


def plain_attention(
    query: Float[Array, "B heads Q K"],
    key: Float[Array, "B heads N K"],
    value: Float[Array, "B heads N K"],
    precision: jax.lax.Precision,
) -> tuple[Float[Array, "B Q heads K"], Float[Array, "B heads Q N"]]:
    """softmax(query · key / √K) · value, and the softmax, which is float32."""
    # The barrier has the heads moved to the front once, before the products, and not in each of them.
    query, key, value = jax.lax.optimization_barrier((query, key, value))
    logits = jnp.einsum("BHqK,BHkK->BHqk", query, key, precision=precision)
    weights = jax.nn.softmax(logits.astype(jnp.float32) * query.shape[-1] ** -0.5)
    mixed = jnp.einsum("BHqk,BHkK->BHqK", weights.astype(value.dtype), value, precision=precision)
    return mixed.swapaxes(1, 2), weights


def fused_attention(
    query: Float[Array, "B N heads K"],
    key: Float[Array, "B N heads K"],
    value: Float[Array, "B N heads K"],
    *,
    length: int | None = None,
    bias: Float[Array, "B heads N N"] | None = None,
) -> Float[Array, "B N heads K"]:
    """By cuDNN's kernel, see `fused_attention_works`: softmax(query · key / √K) · value over the first `length` tokens,
    or T5's softmax(query · key + bias) · value, with a `kernel_bias`.

    Rows are of a `kernel_length`; what comes out for the tokens that fill them up means nothing.
    """
    attend = functools.partial(jax.nn.dot_product_attention, query, key, value, implementation="cudnn")
    if bias is not None:
        return attend(bias=bias, scale=1.0)
    if length in (None, query.shape[1]):
        return attend()
    # A constant, but one of which `jax.vmap` has as many as of the queries: JAX's kernel wants that.
    lengths = jnp.where(query[:, 0, 0, 0] > 0, length, length).astype(jnp.int32)
    return attend(query_seq_lengths=lengths, key_value_seq_lengths=lengths)


def kernel_length(length: int, biased: bool = False) -> int:
    """To how many tokens a row is filled up: JAX refuses to train with an odd number, as 1 + 14 x 14; rows of a bias
    begin at multiples of 16 bytes."""
    return length + -length % (8 if biased else 2)


def kernel_bias(bias: Float[Array, "B heads N N"], dtype: jnp.dtype) -> Float[Array, "B heads N N"]:
    """The bias as the kernel reads it; it is the same for all blocks. One of at most `RULED_OUT` rules a key out."""
    return jnp.maximum(bias, RULED_OUT).astype(dtype)


@functools.cache
def fused_attention_works(length: int, heads: int, head_width: int, dtype: jnp.dtype, biased: bool = False) -> bool:
    """Whether this machine has the kernel for rows of so many tokens, and the numbers and gradients of it are right.

    It is tried, on all of this process's devices together as a step does: a driver, a cuDNN or a card that cannot do it
    is told by the attempt and no other way. Some queries give all the weight to one key; with a bias, rows hold several
    texts, and padding that attends to nothing.
    """
    if jax.default_backend() != "gpu" or dtype != jnp.bfloat16:
        return False
    arguments = _trial(length, heads, head_width, biased)

    def value_and_gradients(attend, dtype, direction, *arguments):
        result, gradients = jax.vjp(functools.partial(attend, length), *(x.astype(dtype) for x in arguments))
        attending = result * (direction != 0)  # what becomes of padding is nobody's business
        return [x.astype(jnp.float32) for x in (attending, *gradients(direction.astype(dtype)))]

    try:
        # While a program is traced, this runs at once.
        with jax.ensure_compile_time_eval():
            mesh = Mesh(np.array(jax.local_devices()), ("data",))
            placed = jax.device_put(arguments, NamedSharding(mesh, PartitionSpec("data")))
            fused, right = (
                jax.jit(functools.partial(value_and_gradients, attend, dtype))(*placed)
                for attend, dtype in ((_by_the_kernel, jnp.bfloat16), (_exactly, jnp.float32))
            )
            # Not Python's `max`, which passes a NaN over.
            off = float(jnp.stack([jnp.linalg.norm(a - b) / jnp.linalg.norm(b) for a, b in zip(fused, right)]).max())
    except Exception as error:  # of whatever kind a missing library, kernel or card raises
        logging.warning("attention without cuDNN's kernel: %s", reason(error))
        return False
    if not off <= TOLERANCE:
        logging.warning("attention without cuDNN's kernel: its numbers are off by %.3g", off)
    return off <= TOLERANCE


def _trial(length: int, heads: int, head_width: int, biased: bool) -> list[np.ndarray]:
    """A gradient of the result, [B, N, heads, K], query, key, value and, if wanted, a bias: bfloat16's, as float32."""
    batch, tokens = 2 * jax.local_device_count(), kernel_length(length, biased)
    random = np.random.default_rng(0)
    direction, query, key, value = random.normal(size=(4, batch, tokens, heads, head_width))
    query[:, 0] *= 100
    direction[:, length:] = 0
    if not biased:
        return [_rounded(x) for x in (direction, query, key, value)]
    # Of every two rows, one is a text, and one has two texts and padding.
    segment_ids = np.repeat([np.arange(tokens) < length], batch, axis=0).astype(int)
    segment_ids[::2] = np.searchsorted((length // 2, length - length // 4), np.arange(tokens), side="right") + 1
    segment_ids[segment_ids == 3] = 0
    visible = (segment_ids[:, :, None] == segment_ids[:, None]) & (segment_ids[:, None] > 0)
    bias = np.where(visible[:, None], 3 * random.normal(size=(batch, heads, tokens, tokens)), RULED_OUT)
    direction *= (segment_ids > 0)[..., None, None]
    return [_rounded(x) for x in (direction, query * head_width**-0.5, key, value, bias)]


def _rounded(x: np.ndarray) -> np.ndarray:
    return x.astype(jnp.bfloat16).astype(np.float32)


def _by_the_kernel(length, query, key, value, bias=None):
    bias = None if bias is None else kernel_bias(bias, query.dtype)
    return fused_attention(query, key, value, length=length, bias=bias)


def _exactly(length, query, key, value, bias=None):
    scale = query.shape[-1] ** -0.5 if bias is None else 1.0
    logits = scale * jnp.einsum("BqHK,BkHK->BHqk", query, key, precision=jax.lax.Precision.HIGHEST)
    visible = jnp.arange(key.shape[1]) < length
    weights = jax.nn.softmax(jnp.where(visible, logits if bias is None else logits + bias, RULED_OUT))
    return jnp.einsum("BHqk,BkHK->BqHK", weights, value, precision=jax.lax.Precision.HIGHEST)
