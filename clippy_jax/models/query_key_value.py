"""Queries, keys and values of the image tower where they are not one product with one bias."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from clippy_jax.models.layers import Dense, Pending, apart


class QueryKeyValue(Dense):
    """`Dense` for queries, keys and values, in a product each: as cuDNN's kernel reads them, so that nothing copies
    them out of one array, or their gradients into one.

    The keys' bias is left out: a softmax is the same whatever is added to all of its logits. The values' bias comes
    fourth: as a token's attention weights sum to 1, it can be added to what they mix.
    """

    @nn.compact
    def __call__(self, inputs: Float[Array, "B N D"] | Pending) -> tuple[Array, Array, Array, Float[Array, "D"]]:
        tokens, kernel, bias = self._parameters(inputs)
        query_bias, _, value_bias = jnp.split(bias, 3)
        parts = zip(apart(tokens, 3), jnp.split(kernel, 3, axis=1), (query_bias, None, None))
        return *(self._product(*part) for part in parts), value_bias


class QueryValueBias(nn.Module):
    """The bias on the queries and values of a fused product; the keys have none, as in DINOv3."""

    @nn.compact
    def __call__(self, qkv: Float[Array, "*batch 3*D"]) -> Float[Array, "*batch 3*D"]:
        width = qkv.shape[-1] // 3
        query, value = self.param("bias", nn.initializers.zeros, (2, width)).astype(qkv.dtype)
        return qkv + jnp.concatenate([query, jnp.zeros_like(query), value])
