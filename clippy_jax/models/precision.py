"""What the precision word of a configuration means for arrays and matrix products.

Parameters are always float32, and so are softmax, normalisation statistics, logits and the loss. There is no float16:
T5's activations overflow in it.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp


class Precision(NamedTuple):
    """The compute type of activations, and how exactly a matrix product multiplies them."""

    dtype: jnp.dtype
    matmul: jax.lax.Precision


def precision_of(word: Literal["float32", "tensorfloat32", "bfloat16"]) -> Precision:
    """`float32` is exact everywhere, `tensorfloat32` takes a GPU's 19-bit products, `bfloat16` halves the memory."""
    return {
        "float32": Precision(jnp.dtype("float32"), jax.lax.Precision.HIGHEST),
        "tensorfloat32": Precision(jnp.dtype("float32"), jax.lax.Precision.HIGH),
        "bfloat16": Precision(jnp.dtype("bfloat16"), jax.lax.Precision.DEFAULT),
    }[word]
