"""CLIPpy: an image tower and a text tower that meet in one embedding space (Ranasinghe et al., ICCV 2023).

What makes patches nameable is the pooling: the image embedding is the maximum over tokens, feature by feature, so the
contrastive loss reaches every patch that wins a feature (paper, section 3.2).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from clippy_jax.config import ModelConfig
from clippy_jax.models.packed_texts import TEXTS_PER_ROW, PackedTexts
from clippy_jax.models.precision import precision_of
from clippy_jax.models.t5 import SentenceT5
from clippy_jax.models.vit import ImageTokens, VisionTransformer

# CLIP's pixel statistics; the public CLIPpy code uses them although DINO was trained with ImageNet's.
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)
MAX_LOGIT_SCALE = math.log(100)


class CLIPpy(nn.Module):
    """The two towers, the pooling and the logit scale. All embeddings come out L2-normalised and in float32."""

    config: ModelConfig

    def setup(self):
        precision = precision_of(self.config.precision)
        self.image = VisionTransformer(self.config.image, precision, self.config.rematerialise)
        self.text = SentenceT5(self.config.text, precision, self.config.rematerialise)
        if self.config.image_projection:
            self.image_projection = nn.Dense(
                self.config.text.embedding_width, use_bias=False, dtype=precision.dtype, precision=precision.matmul
            )
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(INITIAL_LOGIT_SCALE), ())

    def __call__(
        self, images: UInt8[Array, "B H W 3"], tokens: Int[Array, "B L"], *, train: bool = False
    ) -> tuple[Float[Array, "B D"], Float[Array, "B D"], Float[Array, ""]]:
        """Image embeddings, text embeddings and the (log) logit scale: all that the contrastive loss reads."""
        _, pooled = self.encode_image(images, train=train)
        return pooled, self.encode_text(tokens, train=train), self.logit_scale

    def encode_image(
        self, images: UInt8[Array, "B H W 3"], *, train: bool = False
    ) -> tuple[Float[Array, "B h w D"], Float[Array, "B D"]]:
        """Patch embeddings on their grid and the pooled image embedding, both comparable to text embeddings."""
        tokens = self.image(normalise_pixels(images), train=train)
        if self.config.image_projection:
            tokens = tokens.replace(
                patches=self.image_projection(tokens.patches), cls=self.image_projection(tokens.cls)
            )
        tokens = jax.tree.map(lambda x: x.astype(jnp.float32), tokens)
        return l2_normalise(tokens.patches), l2_normalise(pool(tokens, self.config.pooling))

    def encode_text(self, tokens: Int[Array, "T L"], *, train: bool = False) -> Float[Array, "T D"]:
        """Sentence embeddings of zero-padded token ids."""
        return l2_normalise(self.text(tokens, train=train).astype(jnp.float32))

    def encode_packed_texts(self, texts: PackedTexts, *, train: bool = False) -> Float[Array, "T D"]:
        """The same of texts that share rows: one pack's after the other's."""
        packs, rows, length = texts.tokens.shape
        tokens, slots = texts.tokens.reshape(packs * rows, length), texts.slots.reshape(packs * rows, length)
        embeddings = self.text(tokens, slots, train=train).reshape(packs, rows * TEXTS_PER_ROW, -1)
        embeddings = jnp.take_along_axis(embeddings, texts.places[..., None], axis=1)
        return l2_normalise(embeddings.reshape(-1, embeddings.shape[-1]).astype(jnp.float32))

    def attention(self, images: UInt8[Array, "B H W 3"]) -> Float[Array, "B heads tokens tokens"]:
        """The attention maps of the image tower's last block; token 0 is the CLS token."""
        return self.image(normalise_pixels(images), return_attention=True).attention


def pool(tokens: ImageTokens, pooling: str) -> Float[Array, "B D"]:
    """One vector an image: the maximum (with or without the CLS token), the mean, or the CLS token itself."""
    patches = tokens.patches.reshape(tokens.patches.shape[0], -1, tokens.patches.shape[-1])
    match pooling:
        case "max":
            return _max_over_tokens(patches)
        case "max_with_cls":
            return _max_over_tokens(jnp.concatenate([tokens.cls[:, None], patches], axis=1))
        case "avg":
            return patches.mean(axis=1)
        case "cls":
            return tokens.cls
    raise ValueError(f"unknown pooling {pooling!r}")


def _max_over_tokens(tokens: Float[Array, "B N D"]) -> Float[Array, "B D"]:
    """The largest value of each feature; its gradient goes to the one token that wins the feature.

    JAX's own gradient of a maximum looks for the token that *equals* it. Where the compiler fuses the final LayerNorm
    into that comparison, the token is computed a second time, may round otherwise, equals nothing, and its gradient is
    lost (or 0 / 0). An index is never lost.
    """
    winner = jnp.argmax(tokens, axis=1, keepdims=True)
    return jnp.take_along_axis(tokens, winner, axis=1)[:, 0]


def normalise_pixels(images: UInt8[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
    """Pixels of 0 to 255 as the towers want them: zero mean and unit deviation a channel."""
    return (images.astype(jnp.float32) / 255 - jnp.array(IMAGE_MEAN)) / jnp.array(IMAGE_STD)


def l2_normalise(vectors: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    """Vectors of length 1; a zero vector stays zero, as in PyTorch's `normalize`, and has a finite gradient."""
    squared = (vectors**2).sum(axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.where(squared > 1e-24, squared, 1e-24))
