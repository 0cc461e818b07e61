"""The image tower: a Vision Transformer with DINO's exact function.

Pre-norm blocks, LayerNorm eps 1e-6, exact (erf) GELU, a bias on query, key and value, a CLS token and learned
positions, as in Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (2021).
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from clippy_jax.config import ImageTowerConfig
from clippy_jax.models.attention import fused_attention, fused_attention_works, plain_attention
from clippy_jax.models.layers import Dense, keep, rematerialised, uniform
from clippy_jax.models.position_embedding import resize_position_embedding
from clippy_jax.models.precision import Precision

# The released DINO backbones, and a tiny one for tests: width, depth, heads, MLP width and patch size.
SIZES = {
    "Ti/16": dict(width=48, depth=3, heads=3, mlp_width=96, patch_size=16),
    "S/16": dict(width=384, depth=12, heads=6, mlp_width=1536, patch_size=16),
    "S/8": dict(width=384, depth=12, heads=6, mlp_width=1536, patch_size=8),
    "B/16": dict(width=768, depth=12, heads=12, mlp_width=3072, patch_size=16),
    "B/8": dict(width=768, depth=12, heads=12, mlp_width=3072, patch_size=8),
}

_INITIALIZER = nn.initializers.truncated_normal(0.02)


@flax.struct.dataclass
class ImageTokens:
    """The tower's outputs for a batch of images, after its final LayerNorm.

    Under patch dropout the grid is gone: the kept patch tokens come as one row, `h` = 1.
    """

    patches: Float[Array, "B h w D"]
    cls: Float[Array, "B D"]
    attention: Float[Array, "B heads tokens tokens"] | None  # of the last block, CLS first; None unless asked for


class VisionTransformer(nn.Module):
    """Images to tokens, at any size that the patch size divides."""

    config: ImageTowerConfig
    precision: Precision
    rematerialise: bool = False

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W 3"], *, train: bool = False, return_attention: bool = False
    ) -> ImageTokens:
        """Encodes normalised images; `train` turns patch dropout on (it draws from the random stream "dropout").

        Raises:
          ValueError: the patch size does not divide the height or the width.
        """
        config, precision = self.config, self.precision
        batch, height, width, _ = images.shape
        if height % config.patch_size or width % config.patch_size:
            raise ValueError(f"patches of {config.patch_size} pixels do not divide an image of {height}x{width}")
        grid = (height // config.patch_size, width // config.patch_size)
        trained = config.image_size // config.patch_size

        tokens = Dense(config.width, name="patch_embedding", dtype=precision.dtype, precision=precision.matmul)(
            _split_into_patches(images, config.patch_size)
        )
        cls = self.param("cls_token", _INITIALIZER, (1, 1, config.width))
        positions = self.param("position_embedding", _INITIALIZER, (1, 1 + trained**2, config.width))
        positions = resize_position_embedding(positions, grid, config.position_interpolation).astype(tokens.dtype)
        cls = jnp.broadcast_to(cls.astype(tokens.dtype) + positions[:, :1], (batch, 1, config.width))
        tokens = tokens + positions[:, 1:]
        if train and config.patch_dropout > 0:
            tokens = _drop_patches(tokens, config.patch_dropout, self.make_rng("dropout"))
            grid = (1, tokens.shape[1])
        tokens = jnp.concatenate([cls, tokens], axis=1)

        block = rematerialised(Block, self.rematerialise)
        blocks = nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=config.depth)
        # The carry holds one attention map, which every block overwrites, so that asking for the last costs one map.
        attention = jnp.zeros((batch, config.heads) + 2 * (tokens.shape[1],)) if return_attention else None
        (tokens, attention), _ = blocks(config, precision, name="blocks")((tokens, attention), None)

        tokens = nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, dtype=precision.dtype, name="norm")(tokens)
        patches = tokens[:, 1:].reshape(batch, *grid, config.width)
        return ImageTokens(patches=patches, cls=tokens[:, 0], attention=attention)


class Block(nn.Module):
    """Self-attention and MLP, each after a LayerNorm and around a residual connection."""

    config: ImageTowerConfig
    precision: Precision

    @nn.compact
    def __call__(self, carry, _):
        tokens, attention = carry
        width, heads = self.config.width, self.config.heads

        def norm(name):
            return nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, dtype=self.precision.dtype, name=name)

        def dense(inputs, features, name):
            layer = Dense(
                features,
                kernel_init=_INITIALIZER,
                dtype=self.precision.dtype,
                precision=self.precision.matmul,
                name=name,
            )
            return layer(inputs)

        # The fused product holds all query heads, then all key heads, then all value heads, as DINO's `qkv` does.
        qkv = dense(norm("norm1")(tokens), 3 * width, "qkv")
        qkv = qkv.reshape(*qkv.shape[:2], 3, heads, width // heads)
        if attention is None and fused_attention_works(tokens.shape[1], heads, width // heads, qkv.dtype):
            mixed, weights = fused_attention(*jnp.moveaxis(qkv, 2, 0)), None
        else:
            mixed, weights = plain_attention(*jnp.moveaxis(qkv, (2, 3), (0, 2)), self.precision.matmul)
        tokens = tokens + dense(keep(mixed.reshape(tokens.shape)), width, "projection")

        hidden = gelu(dense(norm("norm2")(tokens), self.config.mlp_width, "mlp_in"))
        tokens = tokens + dense(hidden, width, "mlp_out")
        return (tokens, None if attention is None else weights), None


def gelu(x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    """The exact GELU, by the error function in float32, as PyTorch computes it.

    `nn.gelu` goes by its complement, which keeps digits of values that nearly vanish, and takes a CPU longer.
    """
    wide = x.astype(jnp.float32)
    return (wide * (0.5 + 0.5 * jax.lax.erf(wide * 0.5**0.5))).astype(x.dtype)


def _split_into_patches(images: Float[Array, "B H W 3"], size: int) -> Float[Array, "B N values"]:
    """Cuts images into patches, row by row; the values of a patch run over its rows, columns, then channels."""
    batch, height, width, channels = images.shape
    patches = images.reshape(batch, height // size, size, width // size, size, channels)
    return patches.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, size * size * channels)


def _drop_patches(tokens: Float[Array, "B N D"], rate: float, key: Array) -> Float[Array, "B kept D"]:
    """Keeps a random `max(1, int(N * (1 - rate)))` of each image's patch tokens, in their order."""
    count = max(1, int(tokens.shape[1] * (1 - rate)))
    # Sorted whole: `top_k` of a batch in groups would need the numbers of all devices on each.
    chosen = jnp.argsort(uniform(key, tokens[:, :, 0]), axis=1, descending=True)[:, :count]
    return jnp.take_along_axis(tokens, jnp.sort(chosen)[..., None], axis=1)
