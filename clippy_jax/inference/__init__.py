"""A trained CLIPpy to use: embeddings of images and texts, labels for the pixels of an image."""

from clippy_jax.inference.load import load_model
from clippy_jax.inference.model import Model

__all__ = ["Model", "load_model"]
