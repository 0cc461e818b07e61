"""What a training step is worth: the operations of its matrix products, by formula, and the tokens that it reads.

Two operations for each multiplication. The gradient of a product is two products of its size, so what learns counts
three times and a frozen tower once. What rematerialisation and microbatches compute again does not count, nor does the
padding of a text that has a row to itself save anything: a row counts whole. So it is the count behind the model FLOPs
utilisation (MFU) of Chowdhery et al., "PaLM" (2022), appendix B.
"""

from collections.abc import Sequence
from typing import NamedTuple

from clippy_jax.config import ImageTowerConfig, ModelConfig, TextTowerConfig


class StepWork(NamedTuple):
    """Of one step, over all devices."""

    flops: int
    tokens: int  # of the images that the blocks see (patches that are kept, CLS, registers), and of the rows of texts


def step_work(
    model: ModelConfig, freeze: Sequence[str], image_size: int, batch_size: int, rows: int, length: int
) -> StepWork:
    """The work of a step.

    Args:
      model: the towers.
      freeze: those that keep their weights.
      image_size: pixels along each side of an image.
      batch_size: pairs.
      rows: rows of text in all packs together.
      length: tokens in each of them.
    """
    grid = (image_size // model.image.patch_size) ** 2
    patches = max(1, int(grid * (1 - model.image.patch_dropout)))
    image = batch_size * image_flops(model, grid, patches)
    text = rows * text_row_flops(model.text, length)
    text += 2 * batch_size * model.text.width * model.text.embedding_width
    loss = 2 * batch_size**2 * model.text.embedding_width
    times = {name: 1 if name in freeze else 3 for name in ("image", "text")}
    flops = times["image"] * image + times["text"] * text + 3 * loss
    return StepWork(flops, batch_size * _image_tokens(model.image, patches) + rows * length)


def image_flops(model: ModelConfig, grid: int, patches: int) -> int:
    """The forward pass of one image of `grid` patches, of which the blocks see so many."""
    config, tokens = model.image, _image_tokens(model.image, patches)
    width = config.width
    linear = 4 * width**2 + (3 if config.gated_mlp else 2) * width * config.mlp_width
    blocks = config.depth * (tokens * linear + 2 * tokens**2 * width)
    projection = (1 + patches) * width * model.token_width if model.image_projection else 0
    return 2 * (grid * 3 * config.patch_size**2 * width + blocks + projection)


def text_row_flops(config: TextTowerConfig, length: int) -> int:
    """The forward pass of one row of `length` tokens, without the map to the embedding."""
    inner = config.heads * config.head_width
    linear = 4 * config.width * inner + (3 if config.gated_mlp else 2) * config.width * config.mlp_width
    return 2 * config.depth * (length * linear + 2 * length**2 * inner)


def _image_tokens(config: ImageTowerConfig, patches: int) -> int:
    return 1 + config.registers + patches
