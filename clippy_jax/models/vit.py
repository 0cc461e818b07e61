"""The image tower: a Vision Transformer with the exact function of DINO, DINOv2, DINOv3 or SigLIP.

Pre-norm blocks, exact (erf) GELU, a bias on query, key and value, a CLS token and learned positions, as in Caron et
al., "Emerging Properties in Self-Supervised Vision Transformers" (2021). By configuration, what came later: LayerScale
and SwiGLU (Oquab et al., DINOv2, 2023), registers (Darcet et al., 2024), rotary positions without a bias on the keys
(Siméoni et al., DINOv3, 2025), a MAP head in the place of the CLS token (Zhai et al., SigLIP, 2023).
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from clippy_jax.config import ImageTowerConfig
from clippy_jax.models.attention import fused_attention, fused_attention_works, kernel_length, plain_attention
from clippy_jax.models.dropout import uniform
from clippy_jax.models.gelu import gelu
from clippy_jax.models.layer_norm import LayerNorm
from clippy_jax.models.layers import Dense, LayerScale, Pending, keep, rematerialised, unrolled, written
from clippy_jax.models.map_head import MapHead
from clippy_jax.models.position_embedding import resize_position_embedding
from clippy_jax.models.precision import Precision
from clippy_jax.models.query_key_value import QueryKeyValue, QueryValueBias
from clippy_jax.models.rotary_embedding import rotate, rotation

# The sizes of the released backbones, and a tiny one for tests: width, depth, heads, MLP width and patch size.
SIZES = {
    "Ti/16": dict(width=48, depth=3, heads=3, mlp_width=96, patch_size=16),
    "S/16": dict(width=384, depth=12, heads=6, mlp_width=1536, patch_size=16),
    "S/8": dict(width=384, depth=12, heads=6, mlp_width=1536, patch_size=8),
    "B/16": dict(width=768, depth=12, heads=12, mlp_width=3072, patch_size=16),
    "B/8": dict(width=768, depth=12, heads=12, mlp_width=3072, patch_size=8),
    "S/14": dict(width=384, depth=12, heads=6, mlp_width=1536, patch_size=14),
    "B/14": dict(width=768, depth=12, heads=12, mlp_width=3072, patch_size=14),
    "L/14": dict(width=1024, depth=24, heads=16, mlp_width=4096, patch_size=14),
    "g/14": dict(width=1536, depth=40, heads=24, mlp_width=4096, patch_size=14, gated_mlp=True),
    "L/16": dict(width=1024, depth=24, heads=16, mlp_width=4096, patch_size=16),
    "So400m/14": dict(width=1152, depth=27, heads=16, mlp_width=4304, patch_size=14),
    "So400m/16": dict(width=1152, depth=27, heads=16, mlp_width=4304, patch_size=16),
    "gopt/16": dict(width=1536, depth=40, heads=16, mlp_width=6144, patch_size=16),
}

# What sets a family apart from DINO, beside its sizes.
FAMILIES = {
    "dino": dict(position_interpolation="dino"),
    "dinov2": dict(position_interpolation="dino", layer_scale=True, pixel_statistics="imagenet"),
    "dinov2 with registers": dict(
        position_interpolation="antialias", layer_scale=True, registers=4, pixel_statistics="imagenet"
    ),
    "dinov3": dict(
        position_interpolation="plain",  # of a table that it does not have
        positions="rotary",
        layer_scale=True,
        registers=4,
        norm_eps=1e-5,
        pixel_statistics="imagenet",
    ),
    "siglip": dict(position_interpolation="plain", tanh_gelu=True, map_head=True, pixel_statistics="siglip"),
}

_INITIALIZER = nn.initializers.truncated_normal(0.02)


@flax.struct.dataclass
class ImageTokens:
    """The tower's outputs for a batch of images, after its final LayerNorm; registers stay inside. With a MAP head,
    `cls` is what it makes, and `attention` its own [B, heads, 1, patches].

    Under patch dropout the grid is gone: the kept patch tokens come as one row, `h` = 1.
    """

    patches: Float[Array, "B h w D"]
    cls: Float[Array, "B D"]
    attention: Float[Array, "B heads tokens tokens"] | None  # of the last block: CLS, registers, patches; if asked for


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

        tokens = Dense(config.width, name="patch_embedding", dtype=precision.dtype, precision=precision.matmul)(
            _split_into_patches(images, config.patch_size)
        )
        has_cls = int(not config.map_head)
        others = [self.param("cls_token", _INITIALIZER, (1, 1, config.width))] if has_cls else []
        angles = None
        if config.positions == "learned":
            size = has_cls + (config.image_size // config.patch_size) ** 2
            positions = self.param("position_embedding", _INITIALIZER, (1, size, config.width))
            positions = resize_position_embedding(positions, grid, config.position_interpolation)
            others = [x + positions[:, :1] for x in others]
            # In float32, as is the sum over the images that is the gradient of the positions.
            tokens = (tokens.astype(jnp.float32) + positions[:, has_cls:]).astype(precision.dtype)
        else:
            angles = jnp.asarray(rotation(grid, config.width // config.heads))[None]
        if train and config.patch_dropout > 0:
            kept = _kept_patches(tokens, config.patch_dropout, self.make_rng("dropout"))
            tokens = jnp.take_along_axis(tokens, kept, axis=1)
            angles = None if angles is None else jnp.take_along_axis(angles, kept, axis=1)
            grid = (1, tokens.shape[1])
        if config.registers:
            others.append(self.param("register_tokens", _INITIALIZER, (1, config.registers, config.width)))
        others = [jnp.broadcast_to(x.astype(tokens.dtype), (batch, *x.shape[1:])) for x in others]
        tokens = jnp.concatenate([*others, tokens], axis=1)
        length, heads = tokens.shape[1], config.heads
        fused = not return_attention and fused_attention_works(length, heads, config.width // heads, tokens.dtype)
        if fused:
            missing = kernel_length(length) - length
            tokens = jnp.pad(tokens, ((0, 0), (0, missing), (0, 0)))
            angles = None if angles is None else jnp.pad(angles, ((0, 0), (0, missing), (0, 0)))

        block = rematerialised(Block, self.rematerialise)
        blocks = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=config.depth,
            unroll=unrolled(config.depth, self.rematerialise),
        )
        # The carry holds one attention map, which every block overwrites, so that asking for the last costs one map.
        attention = jnp.zeros((batch, heads, length, length)) if return_attention and has_cls else None
        kernel = length if fused else None
        (tokens, attention), _ = blocks(config, precision, kernel, name="blocks")((tokens, attention), angles)

        tokens = LayerNorm(config.norm_eps, precision.dtype, name="norm")(tokens[:, :length])
        patches = tokens[:, config.special_tokens :]
        if has_cls:
            cls = tokens[:, 0]
        else:
            cls, weights = MapHead(config, precision, name="map_head")(patches)
            attention = weights if return_attention else None
        return ImageTokens(patches.reshape(batch, *grid, config.width), cls, attention)


class Block(nn.Module):
    """Self-attention and MLP, each after a LayerNorm and around a residual connection."""

    config: ImageTowerConfig
    precision: Precision
    kernel: int | None  # attention is cuDNN's kernel, over so many tokens; or it is plain

    @nn.compact
    def __call__(self, carry, angles: Float[Array, "#B patches K"] | None):
        """One block; `angles` are those of rotary positions."""
        tokens, attention = written(carry[0]), carry[1]
        config, width, heads = self.config, self.config.width, self.config.heads

        def norm(name):
            # A kernel that is rounded to bfloat16 is scaled on the way. A CPU's batches are small for their kernels.
            pending = self.precision.dtype == jnp.bfloat16 or jax.default_backend() == "gpu"
            return LayerNorm(config.norm_eps, self.precision.dtype, pending, name=name)

        def dense(inputs, features, name, use_bias=True, kind=Dense):
            layer = kind(
                features,
                use_bias=use_bias,
                kernel_init=_INITIALIZER,
                dtype=self.precision.dtype,
                precision=self.precision.matmul,
                name=name,
            )
            return layer(inputs)

        def scaled(x, name):
            return LayerScale(name=name)(x) if config.layer_scale else x

        # The kernel holds all query heads, then all key heads, then all value heads, as DINO's `qkv` does.
        normed, value_bias = norm("norm1")(tokens), None
        if self.kernel and angles is None:
            *qkv, value_bias = dense(normed, 3 * width, "qkv", kind=QueryKeyValue)
        else:
            qkv = dense(normed, 3 * width, "qkv", use_bias=angles is None)
            if angles is not None:
                qkv = QueryValueBias(name="query_value")(qkv)
            qkv = jnp.split(qkv, 3, axis=-1)
        query, key, value = (x.reshape(*x.shape[:2], heads, width // heads) for x in qkv)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        if self.kernel:
            mixed, weights = fused_attention(query, key, value, length=self.kernel), None
        else:
            mixed, weights = plain_attention(*(x.swapaxes(1, 2) for x in (query, key, value)), self.precision.matmul)
        mixed = Pending(keep(mixed.reshape(tokens.shape)), None, value_bias)
        tokens = tokens + scaled(dense(mixed, width, "projection"), "layer_scale1")

        if config.gated_mlp:
            gate, hidden = jnp.split(dense(norm("norm2")(tokens), 2 * config.mlp_width, "mlp_in"), 2, axis=-1)
            hidden = nn.silu(gate) * hidden
        else:
            hidden = gelu(dense(norm("norm2")(tokens), config.mlp_width, "mlp_in"), config.tanh_gelu)
        tokens = tokens + scaled(dense(hidden, width, "mlp_out"), "layer_scale2")
        return (tokens, None if attention is None else weights), None


def _split_into_patches(images: Float[Array, "B H W 3"], size: int) -> Float[Array, "B N values"]:
    """Cuts images into patches, row by row; the values of a patch run over its rows, columns, then channels."""
    batch, height, width, channels = images.shape
    patches = images.reshape(batch, height // size, size, width // size, size, channels)
    return patches.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, size * size * channels)


def _kept_patches(tokens: Float[Array, "B N D"], rate: float, key: Key[Array, ""]) -> Int[Array, "B kept 1"]:
    """The indices of a random `max(1, int(N * (1 - rate)))` of each image's patch tokens, in their order."""
    count = max(1, int(tokens.shape[1] * (1 - rate)))
    # Sorted whole: `top_k` of a batch in groups would need the numbers of all devices on each.
    chosen = jnp.argsort(uniform(key, tokens[:, :, 0]), axis=1, descending=True)[:, :count]
    return jnp.sort(chosen)[..., None]
