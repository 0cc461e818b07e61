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
from clippy_jax.models.dense import Dense
from clippy_jax.models.dropout import Dropout
from clippy_jax.models.packed_texts import TEXTS_PER_ROW
from clippy_jax.models.precision import Precision
from clippy_jax.models.rematerialisation import keep, rematerialised

# Sentence-T5 at the published sizes, and a tiny one for tests.
SIZES = {
    "tiny": dict(width=32, depth=2, heads=2, head_width=8, mlp_width=64, embedding_width=48),
    "base": dict(width=768, depth=12, heads=12, head_width=64, mlp_width=3072, embedding_width=768),
    "large": dict(width=1024, depth=24, heads=16, head_width=64, mlp_width=4096, embedding_width=768),
}

PAD = 0  # the token that fills a text up; everything else is a word


class SentenceT5(nn.Module):
    """Token ids to one sentence embedding a text (before the L2 normalisation, which `CLIPpy` applies last)."""

    config: TextTowerConfig
    precision: Precision
    rematerialise: bool = False

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "T L"], slots: Int[Array, "T L"] | None = None, *, train: bool = False
    ) -> Float[Array, "T D"] | Float[Array, "T slots D"]:
        """Encodes padded texts; the padding changes nothing. `train` turns dropout on (random stream "dropout").

        Each row is a text; or with `slots` several are, as in `PackedTexts`, and the result is [T, TEXTS_PER_ROW, D],
        in which slots without a text mean nothing.
        """
        config, precision = self.config, self.precision
        packed = slots is not None
        slots = slots if packed else (tokens != PAD).astype(jnp.int32)
        dropout = Dropout(config.dropout, deterministic=not train)

        embed = nn.Embed(
            config.vocabulary_size,
            config.width,
            embedding_init=nn.initializers.normal(1.0),
            dtype=precision.dtype,
            name="token_embedding",
        )
        bias = RelativePositionBias(config, name="relative_position_bias")(slots)
        blocks = nn.scan(
            rematerialised(Block, self.rematerialise),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=config.depth,
        )
        words, _ = blocks(config, precision, train, name="blocks")(dropout(embed(tokens)), bias)
        words = dropout(nn.RMSNorm(epsilon=1e-6, dtype=precision.dtype, name="norm")(words))

        slot_numbers = 1 + jnp.arange(TEXTS_PER_ROW if packed else 1)
        belongs = (slots[:, None, :] == slot_numbers[:, None]).astype(jnp.float32)
        total = jnp.einsum("TSL,TLD->TSD", belongs, words.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
        mean = total / jnp.maximum(belongs.sum(axis=2), 1)[..., None]
        dense = nn.Dense(config.embedding_width, use_bias=False, precision=precision.matmul, name="dense")
        return dense(mean) if packed else dense(mean)[:, 0]


class Block(nn.Module):
    """Self-attention and MLP, each after an RMS norm and around a residual connection."""

    config: TextTowerConfig
    precision: Precision
    train: bool

    @nn.compact
    def __call__(self, words: Float[Array, "T L D"], bias: Float[Array, "T heads L L"]):
        config = self.config
        dropout = Dropout(config.dropout, deterministic=not self.train)

        def norm(name):
            return nn.RMSNorm(epsilon=1e-6, dtype=self.precision.dtype, name=name)

        def dense(features, name, deviation):
            return Dense(
                features,
                use_bias=False,
                kernel_init=nn.initializers.normal(deviation),
                dtype=self.precision.dtype,
                precision=self.precision.matmul,
                name=name,
            )

        def heads(name, deviation):
            projected = dense(config.heads * config.head_width, name, deviation)(normed)
            return projected.reshape(*words.shape[:2], config.heads, config.head_width)

        normed = norm("attention_norm")(words)
        # T5 does not scale its logits: the initial queries are smaller instead.
        query = heads("query", (config.width * config.head_width) ** -0.5)
        key, value = heads("key", config.width**-0.5), heads("value", config.width**-0.5)
        logits = jnp.einsum("TqHK,TkHK->THqk", query, key, precision=self.precision.matmul)
        weights = dropout(jax.nn.softmax(logits.astype(jnp.float32) + bias).astype(value.dtype))
        mixed = jnp.einsum("THqk,TkHK->TqHK", weights, value, precision=self.precision.matmul)
        mixed = keep(mixed.reshape(*words.shape[:2], config.heads * config.head_width))
        deviation = (config.heads * config.head_width) ** -0.5
        words = words + dropout(dense(config.width, "attention_out", deviation)(mixed))

        normed = norm("mlp_norm")(words)
        hidden = dense(config.mlp_width, "mlp_in", config.width**-0.5)(normed)
        if config.gated_mlp:
            gate = dense(config.mlp_width, "mlp_gate", config.width**-0.5)(normed)
            hidden = nn.gelu(gate, approximate=True) * hidden
        else:
            hidden = nn.relu(hidden)
        words = words + dropout(dense(config.width, "mlp_out", config.mlp_width**-0.5)(dropout(hidden)))
        return words, None


class RelativePositionBias(nn.Module):
    """A learned number for each head and each distance bucket, added to the attention logits of every layer."""

    config: TextTowerConfig

    @nn.compact
    def __call__(self, slots: Int[Array, "T L"]) -> Float[Array, "T heads L L"]:
        """The bias for tokens of these slots; padding (0) and the texts of other slots are ruled out as keys."""
        config, length = self.config, slots.shape[1]
        table = self.param(
            "embedding", nn.initializers.normal(config.width**-0.5), (config.relative_buckets, config.heads)
        )
        bias = table[_relative_buckets(length, config.relative_buckets, config.relative_max_distance)]
        visible = (slots[:, :, None] == slots[:, None, :]) & (slots[:, None, :] > 0)
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
