"""CLIPpy in JAX: train, convert, evaluate and show models whose every patch a text prompt can name."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from clippy_jax.inference import Model


def load(checkpoint: str, tokenizer: str | None = None) -> "Model":
    """Loads a model: `clippy_jax.inference.load_model`, which `import clippy_jax` alone does not pay for."""
    from clippy_jax.inference import load_model

    return load_model(checkpoint, tokenizer)
