"""CLIPpy: an image tower and a text tower that meet in one embedding space (Ranasinghe et al., ICCV 2023)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from clippy_jax.config import ModelConfig
from clippy_jax.models.packed_texts import PackedTexts, packs_of_one
from clippy_jax.models.pooling import as_tokens, place_patches, pool, still_needed
from clippy_jax.models.precision import precision_of
from clippy_jax.models.t5 import SentenceT5
from clippy_jax.models.vit import ImageTokens, VisionTransformer

# CLIP's pixel statistics; the public CLIPpy code uses them although DINO was trained with ImageNet's.
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)

# Mean and standard deviation of each channel, by the words of `ImageTowerConfig.pixel_statistics`.
PIXEL_STATISTICS = {
    "clip": (IMAGE_MEAN, IMAGE_STD),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}

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
                self.config.token_width, use_bias=False, dtype=precision.dtype, precision=precision.matmul
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
        """Patch embeddings on their grid and the pooled image embedding, both comparable to text embeddings.

        With "cls_and_avg" pooling, the first half of a patch embedding is zero (`pooling.place_patches`).
        """
        return self._embeddings(self.image(self._pixels(images), train=train))

    def image_features(self, images: UInt8[Array, "B H W 3"]) -> Float[Array, "B T D"]:
        """What `encode_features` needs of the image tower's tokens; it stays the same while the tower is frozen."""
        tokens = jax.tree.map(lambda x: x.astype(jnp.float32), self.image(self._pixels(images)))
        return still_needed(tokens, self.config.pooling, self.config.image_projection)

    def encode_features(self, features: Float[Array, "B T D"]) -> Float[Array, "B D"]:
        """The pooled image embedding that `encode_image` gives, from `image_features`."""
        return self._embeddings(as_tokens(features))[1]

    def _pixels(self, images: UInt8[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
        return normalise_pixels(images, self.config.image.pixel_statistics)

    def _embeddings(self, tokens: ImageTokens) -> tuple[Float[Array, "B h w D"], Float[Array, "B D"]]:
        if self.config.image_projection:
            tokens = tokens.replace(
                patches=self.image_projection(tokens.patches), cls=self.image_projection(tokens.cls)
            )
        tokens = jax.tree.map(lambda x: x.astype(jnp.float32), tokens)
        patches, pooled = place_patches(tokens.patches, self.config.pooling), pool(tokens, self.config.pooling)
        return l2_normalise(patches), l2_normalise(pooled)

    def encode_text(self, tokens: Int[Array, "T L"], *, train: bool = False) -> Float[Array, "T D"]:
        """Sentence embeddings of padded token ids; the padding changes nothing."""
        return self.encode_packed_texts(packs_of_one(tokens), train=train)

    def encode_packed_texts(self, texts: PackedTexts, *, train: bool = False) -> Float[Array, "T D"]:
        """The same of texts that share rows: one pack's after the other's."""
        return l2_normalise(self.text(texts, train=train).astype(jnp.float32))

    def attention(self, images: UInt8[Array, "B H W 3"]) -> Float[Array, "B heads tokens tokens"]:
        """The attention maps of the image tower's last block: the CLS token, then registers, then patches.

        With a MAP head, what its one query pays to each patch: [B, heads, 1, patches].
        """
        return self.image(self._pixels(images), return_attention=True).attention


def normalise_pixels(images: UInt8[Array, "B H W 3"], statistics: str = "clip") -> Float[Array, "B H W 3"]:
    """Pixels of 0 to 255 as the towers want them: zero mean and a standard deviation of 1 in each channel."""
    mean, std = PIXEL_STATISTICS[statistics]
    return (images.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)


def l2_normalise(vectors: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    """Vectors of length 1; a zero vector stays zero, as in PyTorch's `normalize`, and has a finite gradient."""
    squared = (vectors**2).sum(axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.where(squared > 1e-24, squared, 1e-24))
