"""The networks: a Vision Transformer, a T5 encoder, and CLIPpy, which joins them."""

from clippy_jax.models.clippy import CLIPpy
from clippy_jax.models.packed_texts import PackedTexts, packs_of_one
from clippy_jax.models.pooling import pool

__all__ = ["CLIPpy", "PackedTexts", "packs_of_one", "pool"]
