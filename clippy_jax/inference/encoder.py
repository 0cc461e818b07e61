"""What an evaluation needs of a model; `clippy_jax.inference.Model` is one."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from clippy_jax.config import ModelConfig
from clippy_jax.inference.class_embedding_cache import ClassEmbeddingCache


class Encoder(Protocol):
    """Embeds images and texts in one space, L2-normalised."""

    config: ModelConfig
    mesh: Mesh  # with the axis "data", over which a batch of images is sharded
    class_embedding_cache: ClassEmbeddingCache | None

    def encode_image(self, images: UInt8[Array, "B H W 3"]) -> tuple[Float[Array, "B h w D"], Float[Array, "B D"]]:
        """Patch embeddings on their grid and the pooled image embedding."""
        ...

    def attention(self, images: UInt8[Array, "B H W 3"]) -> Float[Array, "B heads h w"]:
        """What the CLS token pays to each patch in the last block of the image tower."""
        ...

    def encode_text(self, texts: Sequence[str]) -> Float[np.ndarray, "T D"]:
        """Sentence embeddings."""
        ...
