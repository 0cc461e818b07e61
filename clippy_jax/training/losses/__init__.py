"""Contrastive losses of the global batch."""

from clippy_jax.training.losses.contrastive import contrastive_loss

__all__ = ["contrastive_loss"]
