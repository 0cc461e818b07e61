"""A whole CLIPpy in our terms, wherever it came from."""

import dataclasses
from typing import Any, NamedTuple

from clippy_jax.config import ModelConfig


class Moments(NamedTuple):
    """Adam's state."""

    step: int  # updates made
    mean: dict[str, Any]  # of the gradients; a tree like the parameters, without frozen towers
    square: dict[str, Any]  # likewise, of the squared gradients
    groups: tuple[dict[str, Any], dict[str, Any]]  # PyTorch's settings of the parameters without and with weight decay


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Parameters in host memory, and what belongs to them."""

    params: dict[str, Any]
    config: ModelConfig
    image_size: int  # pixels along each side of the images that it was trained on
    tokenizer: str | None = None  # the folder with its files
    moments: Moments | None = None
    epoch: int = 0
    name: str = ""
