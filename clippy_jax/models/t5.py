"""The text tower: a T5 encoder with Sentence-T5's head.

T5 (Raffel et al., 2020): RMS norm without bias, no attention scaling, one relative position bias shared by all layers.
Sentence-T5 (Ni et al., 2021): mean over the words, a linear map without bias, L2 normalisation.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from clippy_jax.config import TextTowerConfig
from clippy_jax.models.attention import fused_attention, fused_attention_works, kernel_bias, kernel_length
from clippy_jax.models.dropout import Dropout
from clippy_jax.models.layers import Dense, apart, keep, rematerialised, unrolled
from clippy_jax.models.packed_texts import TEXTS_PER_ROW, PackedTexts
from clippy_jax.models.precision import Precision

# Sentence-T5 at the published sizes, and a tiny one for tests.
SIZES = {
    "tiny": dict(width=32, depth=2, heads=2, head_width=8, mlp_width=64, embedding_width=48),
    "base": dict(width=768, depth=12, heads=12, head_width=64, mlp_width=3072, embedding_width=768),
    "large": dict(width=1024, depth=24, heads=16, head_width=64, mlp_width=4096, embedding_width=768),
}


class SentenceT5(nn.Module):
    """Token ids to one sentence embedding a text, before the L2 normalisation, which `CLIPpy` applies last."""

    config: TextTowerConfig
    precision: Precision
    rematerialise: bool = False

    @nn.compact
    def __call__(self, texts: PackedTexts, *, train: bool = False) -> Float[Array, "T D"]:
        """Encodes texts, one pack's after the other's. `train` turns dropout on (random stream "dropout")."""
        config, precision = self.config, self.precision
        packs, rows, length = texts.tokens.shape
        tokens, segment_ids = (ids.reshape(packs * rows, length) for ids in (texts.tokens, texts.segment_ids))
        dropout = Dropout(config.dropout, deterministic=not train)
        dropped = config.dropout if config.attention_dropout < 0 else config.attention_dropout
        fused = not (train and dropped) and fused_attention_works(
            length, config.heads, config.head_width, precision.dtype, biased=True
        )
        if fused:
            missing = ((0, 0), (0, kernel_length(length, biased=True) - length))
            tokens, segment_ids = jnp.pad(tokens, missing), jnp.pad(segment_ids, missing)

        embed = nn.Embed(
            config.vocabulary_size, config.width, embedding_init=nn.initializers.normal(1.0), name="token_embedding"
        )
        # From the float32 table, so that its gradient is one too: a frequent word adds up a thousand numbers.
        words = embed(tokens).astype(precision.dtype)
        bias = RelativePositionBias(config, name="relative_position_bias")(segment_ids)
        if fused:
            bias = kernel_bias(bias, precision.dtype)
        blocks = nn.scan(
            rematerialised(Block, self.rematerialise),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=config.depth,
            unroll=unrolled(config.depth, self.rematerialise),
        )
        words, _ = blocks(config, precision, train, dropped, fused, name="blocks")(dropout(words), bias)
        words = dropout(nn.RMSNorm(epsilon=1e-6, dtype=precision.dtype, name="norm")(words))

        # The mean over the words of each segment of each row; segments without a text come out as zero.
        in_segment = (segment_ids[:, None] == 1 + jnp.arange(TEXTS_PER_ROW)[:, None]).astype(jnp.float32)
        total = jnp.einsum("RSL,RLD->RSD", in_segment, words.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
        mean = total / jnp.maximum(in_segment.sum(axis=2), 1)[..., None]
        dense = nn.Dense(config.embedding_width, use_bias=False, precision=precision.matmul, name="dense")
        embeddings = dense(mean).reshape(packs, rows * TEXTS_PER_ROW, config.embedding_width)
        embeddings = jnp.take_along_axis(embeddings, texts.positions[..., None], axis=1)
        return embeddings.reshape(-1, config.embedding_width)


class Block(nn.Module):
    """Self-attention and MLP, each after an RMS norm and around a residual connection."""

    config: TextTowerConfig
    precision: Precision
    train: bool
    attention_dropout: float
    fused: bool  # attention is cuDNN's kernel

    @nn.compact
    def __call__(self, words: Float[Array, "R L D"], bias: Float[Array, "R heads L L"]):
        config = self.config
        dropout = Dropout(config.dropout, deterministic=not self.train)

        def norm(name):
            return nn.RMSNorm(epsilon=1e-6, dtype=self.precision.dtype, name=name)

        def dense(inputs, features, name, std=None):
            layer = Dense(
                features,
                use_bias=False,
                kernel_init=nn.initializers.normal(std or inputs.shape[-1] ** -0.5),
                dtype=self.precision.dtype,
                precision=self.precision.matmul,
                name=name,
            )
            return layer(inputs)

        def heads(normed, name, std=None):
            projected = dense(normed, config.heads * config.head_width, name, std)
            return projected.reshape(*words.shape[:2], config.heads, config.head_width)

        normed = norm("attention_norm")(words)
        each = apart(normed, 3) if self.fused else (normed,) * 3
        # T5 does not scale its logits: the initial queries are smaller instead.
        query = heads(each[0], "query", (config.width * config.head_width) ** -0.5)
        key, value = heads(each[1], "key"), heads(each[2], "value")
        if self.fused:
            mixed = fused_attention(query, key, value, bias=bias)
        else:
            logits = jnp.einsum("RqHK,RkHK->RHqk", query, key, precision=self.precision.matmul)
            weights = dropout(
                jax.nn.softmax(logits.astype(jnp.float32) + bias).astype(value.dtype), self.attention_dropout
            )
            mixed = jnp.einsum("RHqk,RkHK->RqHK", weights, value, precision=self.precision.matmul)
        mixed = keep(mixed.reshape(*words.shape[:2], config.heads * config.head_width))
        words = words + dropout(dense(mixed, config.width, "attention_out"))

        normed = norm("mlp_norm")(words)
        hidden = dense(normed, config.mlp_width, "mlp_in")
        if config.gated_mlp:
            hidden = nn.gelu(dense(normed, config.mlp_width, "mlp_gate"), approximate=True) * hidden
        else:
            hidden = nn.relu(hidden)
        return words + dropout(dense(dropout(hidden), config.width, "mlp_out")), None


class RelativePositionBias(nn.Module):
    """A learned number for each head and each distance bucket, added to the attention logits of every layer."""

    config: TextTowerConfig

    @nn.compact
    def __call__(self, segment_ids: Int[Array, "R L"]) -> Float[Array, "R heads L L"]:
        """The bias for tokens of these segments; padding (0) and the tokens of other segments are ruled out as keys."""
        config, length = self.config, segment_ids.shape[1]
        table = self.param(
            "embedding", nn.initializers.normal(config.width**-0.5), (config.relative_buckets, config.heads)
        )
        bias = table[_relative_buckets(length, config.relative_buckets, config.relative_max_distance)]
        visible = (segment_ids[:, :, None] == segment_ids[:, None, :]) & (segment_ids[:, None, :] > 0)
        return jnp.where(visible[:, None], bias.transpose(2, 0, 1), jnp.finfo(jnp.float32).min)


def _relative_buckets(length: int, buckets: int, max_distance: int) -> Int[np.ndarray, "L L"]:
    """The bucket of each (query, key) pair: half of them for keys to the right; small distances have one each, larger
    ones share logarithmically wider ones (Raffel et al., 2020, section 2.1)."""
    distance = np.arange(length)[None, :] - np.arange(length)[:, None]
    buckets //= 2
    exact = buckets // 2
    magnitude = np.abs(distance)
    # In float32, as T5 itself computes it, so that no distance on an edge falls into the neighbouring bucket.
    logarithm = np.log(np.maximum(magnitude, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(max_distance / exact)
    )
    wide = np.minimum(exact + (logarithm * np.float32(buckets - exact)).astype(int), buckets - 1)
    return np.where(distance > 0, buckets, 0) + np.where(magnitude < exact, magnitude, wide)
