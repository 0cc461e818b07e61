"""The image tower's attention: plain, or in one kernel, cuDNN's, that never writes the attention weights to memory.

JAX offers the kernel on NVIDIA GPUs from Ampere on, for 16-bit numbers, without dropout. T5 drops attention weights and
adds a bias to each text's logits; its texts are short, and it goes without.
"""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# How far bfloat16 rounding may take the kernel's mean of values that are about 1 large from the plain one.
TOLERANCE = 0.03


def plain_attention(
    query: Float[Array, "B heads N K"],
    key: Float[Array, "B heads N K"],
    value: Float[Array, "B heads N K"],
    precision: jax.lax.Precision,
) -> tuple[Float[Array, "B N heads K"], Float[Array, "B heads N N"]]:
    """softmax(query · key / √K) · value, and the softmax, which is float32."""
    # The barrier has the heads moved to the front once, before the products, and not in each of them.
    query, key, value = jax.lax.optimization_barrier((query, key, value))
    logits = jnp.einsum("BHqK,BHkK->BHqk", query, key, precision=precision)
    weights = jax.nn.softmax(logits.astype(jnp.float32) * query.shape[-1] ** -0.5)
    mixed = jnp.einsum("BHqk,BHkK->BHqK", weights.astype(value.dtype), value, precision=precision)
    return mixed.swapaxes(1, 2), weights


def fused_attention(
    query: Float[Array, "B N heads K"], key: Float[Array, "B N heads K"], value: Float[Array, "B N heads K"]
) -> Float[Array, "B N heads K"]:
    """softmax(query · key / √K) · value, by cuDNN's kernel; see `fused_attention_works`."""
    return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")


@functools.cache
def fused_attention_works(tokens: int, heads: int, head_width: int, dtype: jnp.dtype) -> bool:
    """Whether this machine has the kernel for such arrays, and the numbers and gradients of it are right.

    It is tried: a driver, a cuDNN or a card that cannot do it is told by the attempt and no other way.
    """
    if jax.default_backend() != "gpu" or dtype != jnp.bfloat16:
        return False
    random = np.random.default_rng(0)
    arguments = [random.normal(size=(1, tokens, heads, head_width)).astype(jnp.bfloat16) for _ in range(4)]

    def value_and_gradients(implementation, query, key, value, direction):
        attend = functools.partial(jax.nn.dot_product_attention, implementation=implementation)
        result, gradients = jax.vjp(attend, query, key, value)
        return result, *gradients(direction)

    try:
        # While a program is traced, this runs at once.
        with jax.ensure_compile_time_eval():
            fused, plain = (
                jax.jit(functools.partial(value_and_gradients, implementation))(*map(jnp.asarray, arguments))
                for implementation in ("cudnn", "xla")
            )
            # Not Python's `max`, which passes a NaN over.
            off = float(jnp.stack([jnp.abs(a - b).max() for a, b in zip(fused, plain)]).max())
    except Exception as error:  # of whatever kind a missing library, kernel or card raises
        logging.warning("attention without cuDNN's kernel: %s", " ".join(str(error).split())[:200])
        return False
    if not off <= TOLERANCE:
        logging.warning("attention without cuDNN's kernel: its numbers are off by %.3g", off)
    return off <= TOLERANCE
