"""SigLIP's multi-head attention pooling (Zhai et al., 2022, 2023): one learned query attends to the patch tokens."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from clippy_jax.config import ImageTowerConfig
from clippy_jax.models.attention import plain_attention
from clippy_jax.models.gelu import gelu
from clippy_jax.models.layer_norm import LayerNorm
from clippy_jax.models.layers import Dense
from clippy_jax.models.precision import Precision

_INITIALIZER = nn.initializers.truncated_normal(0.02)


class MapHead(nn.Module):
    """Patch tokens to one vector, by attention and an MLP around which a residual connection goes."""

    config: ImageTowerConfig
    precision: Precision

    @nn.compact
    def __call__(self, patches: Float[Array, "B N D"]) -> tuple[Float[Array, "B D"], Float[Array, "B heads 1 N"]]:
        """The vector, and what the query pays to each patch."""
        config, precision = self.config, self.precision
        batch, width, heads = patches.shape[0], config.width, config.heads

        def dense(inputs, features, name):
            layer = Dense(
                features, kernel_init=_INITIALIZER, dtype=precision.dtype, precision=precision.matmul, name=name
            )
            return layer(inputs)

        probe = self.param("probe", _INITIALIZER, (1, 1, width)).astype(patches.dtype)
        query = jnp.broadcast_to(dense(probe, width, "query"), (batch, 1, width))
        key, value = jnp.split(dense(patches, 2 * width, "key_value"), 2, axis=-1)
        by_head = (x.reshape(batch, -1, heads, width // heads).swapaxes(1, 2) for x in (query, key, value))
        mixed, weights = plain_attention(*by_head, precision.matmul)
        pooled = dense(mixed.reshape(batch, width), width, "projection")

        norm = LayerNorm(epsilon=config.norm_eps, dtype=precision.dtype, name="norm")
        hidden = gelu(dense(norm(pooled), config.mlp_width, "mlp_in"), config.tanh_gelu)
        return pooled + dense(hidden, width, "mlp_out"), weights
