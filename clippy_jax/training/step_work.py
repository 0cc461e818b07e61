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
    model: ModelConfig,
    freeze: Sequence[str],
    image_size: int,
    batch_size: int,
    rows: int,
    length: int,
    feature_tokens: int | None = None,
) -> StepWork:
    """The work of a step.

    Args:
      model: the towers.
      freeze: those that keep their weights.
      image_size: pixels along each side of an image.
      batch_size: pairs.
      rows: rows of text in all packs together.
      length: tokens in each of them.
      feature_tokens: tokens of an image that were computed beforehand, so that no step makes them.
    """
    grid = (image_size // model.image.patch_size) ** 2
    patches = max(1, int(grid * (1 - model.image.patch_dropout)))
    tokens = model.image.special_tokens + patches if feature_tokens is None else feature_tokens
    image = tower_flops(model.image, grid, patches) if feature_tokens is None else 0
    projection = projection_flops(model, 1 + patches if feature_tokens is None else feature_tokens)
    text = rows * text_row_flops(model.text, length)
    text += 2 * batch_size * model.text.width * model.text.embedding_width
    loss = 2 * batch_size**2 * model.text.embedding_width
    times = {name: 1 if name in freeze else 3 for name in ("image", "text")}
    # What projects a frozen tower's tokens learns, and hands no gradient on.
    images = times["image"] * image + (2 if "image" in freeze else 3) * projection
    return StepWork(batch_size * images + times["text"] * text + 3 * loss, batch_size * tokens + rows * length)


def image_flops(model: ModelConfig, grid: int, patches: int) -> int:
    """The forward pass of one image of `grid` patches, of which the blocks see so many."""
    return tower_flops(model.image, grid, patches) + projection_flops(model, 1 + patches)


def tower_flops(config: ImageTowerConfig, grid: int, patches: int) -> int:
    """That of the image tower alone; SigLIP's query, the same for all images, does not count."""
    width, tokens = config.width, config.special_tokens + patches
    mlp = (3 if config.gated_mlp else 2) * width * config.mlp_width
    blocks = config.depth * (tokens * (4 * width**2 + mlp) + 2 * tokens**2 * width)
    head = patches * (2 * width**2 + 2 * width) + width**2 + mlp if config.map_head else 0
    return 2 * (grid * 3 * config.patch_size**2 * width + blocks + head)


def projection_flops(model: ModelConfig, tokens: int) -> int:
    """The map of an image's tokens to the width of text embeddings, where there is one."""
    return 2 * tokens * model.image.width * model.token_width if model.image_projection else 0


def text_row_flops(config: TextTowerConfig, length: int) -> int:
    """The forward pass of one row of `length` tokens, without the map to the embedding."""
    inner = config.heads * config.head_width
    linear = 4 * config.width * inner + (3 if config.gated_mlp else 2) * config.width * config.mlp_width
    return 2 * config.depth * (length * linear + 2 * length**2 * inner)
