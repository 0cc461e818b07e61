"""A whole CLIPpy in our terms, wherever it came from."""

import dataclasses
from typing import Any, NamedTuple

from clippy_jax.config import ModelConfig, check_image_size, parse_model
from clippy_jax.errors import InputError, reading


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


def parse_description(model: Any, image_size: Any, source: str) -> tuple[ModelConfig, int]:
    """The model and its training image size, as what we save describes them.

    Args:
      model: the fields of a `ModelConfig`.
      image_size: pixels, as a number or in digits; None for the size that the position embedding is made for.
      source: how an error message names the file.

    Raises:
      InputError: they make no model, or the patch size does not divide the image size.
    """
    try:
        config = parse_model(model)
        with reading(f"image_size {image_size!r}", wrong="is no number"):
            size = config.image.image_size if image_size is None else int(image_size)
        check_image_size(size, config.image, "image_size")
    except InputError as error:
        raise InputError(f"{source} does not describe a model: {error}") from None
    return config, size
