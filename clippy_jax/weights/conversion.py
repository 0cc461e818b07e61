"""From PyTorch's weights to a whole CLIPpy: out of one file, or out of a tower each."""

from typing import NamedTuple

from flax.traverse_util import flatten_dict, unflatten_dict

from clippy_jax.weights.adamw import read_moments
from clippy_jax.weights.checkpoint import Checkpoint
from clippy_jax.weights.sizes import join_towers
from clippy_jax.weights.sources import Network, read_as
from clippy_jax.weights.state_dict import initial_params, parameter_shapes


class Converted(NamedTuple):
    """A checkpoint, and what of it no file gave."""

    checkpoint: Checkpoint
    left: list[str]  # torch keys or parameter paths, left at a random initialisation


def from_clippy(path: str, flag: str, with_moments: bool = True, allow_partial: bool = False) -> Converted:
    """Converts a file like `clippy_5k.pt`.

    Args:
      path: the file.
      flag: what asked for it, for the error messages.
      with_moments: convert the optimizer's state as well, if there is one.
      allow_partial: make up for missing and misshapen keys by a random initialisation, ignore unexpected ones.

    Raises:
      InputError: the file cannot be read, is something else, or does not fit.
    """
    weights = read_as("CLIPpy checkpoint", path, flag)
    params, left = weights.to_params(allow_partial)
    moments = None
    if with_moments and weights.optimizer:
        moments = read_moments(weights.optimizer, weights.rules, parameter_shapes(weights.config), path)
    return Converted(Checkpoint(params, weights.config, moments=moments, epoch=weights.epoch, name=weights.name), left)


def from_towers(image: str, text: str, network: Network = "teacher", allow_partial: bool = False) -> Converted:
    """Joins a DINO ViT and a Sentence-T5; arguments as for `from_clippy`. The tokenizer is the text folder's.

    Towers of different widths get a projection, which is left at its initialisation as the logit scale is.
    """
    image_weights = read_as("DINO backbone", image, "--image", network)
    text_weights = read_as("Sentence-T5 folder", text, "--text")
    config = join_towers(
        image_weights.config, text_weights.config, image_weights.config.width != text_weights.config.embedding_width
    )
    image_params, image_left = image_weights.to_params(allow_partial)
    text_params, text_left = text_weights.to_params(allow_partial)
    given = flatten_dict({"image": image_params, "text": text_params}, sep="/")
    rest = [path for path in flatten_dict(parameter_shapes(config), sep="/") if path not in given]
    params = unflatten_dict({**given, **initial_params(config, rest)}, sep="/")
    return Converted(Checkpoint(params, config, tokenizer=text), [*image_left, *text_left, *rest])
