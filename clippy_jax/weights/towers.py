"""PyTorch weights with what turns them into parameters: a tower's or those of a whole CLIPpy."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clippy_jax.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from clippy_jax.errors import InputError, reading
from clippy_jax.models.packed_texts import packs_of_one
from clippy_jax.models.precision import precision_of
from clippy_jax.models.t5 import SentenceT5
from clippy_jax.models.vit import VisionTransformer
from clippy_jax.training.state import init_params
from clippy_jax.weights.checkpoint import parse_description
from clippy_jax.weights.image_names import ImageParts, image_rules
from clippy_jax.weights.kinds import Kind, find_weights, kind_of
from clippy_jax.weights.rules import Differences, Rule, differences, flax_shapes, some, to_flax, to_torch
from clippy_jax.weights.sentence_t5 import read_sentence_t5
from clippy_jax.weights.sizes import clippy_sizes, image_sizes, text_sizes
from clippy_jax.weights.state_dict import Network, read_state_dict
from clippy_jax.weights.torch_names import IMAGE_PREFIX, clippy_rules, is_gated, text_rules

AnyConfig = ImageTowerConfig | TextTowerConfig | ModelConfig


@dataclasses.dataclass(frozen=True)
class TorchWeights:
    """What a file or folder holds, not yet checked against the sizes it is said to have."""

    source: str  # the file or folder
    kind: Kind
    tensors: Mapping[str, np.ndarray]  # under the keys of `rules`
    rules: tuple[Rule, ...]
    config: AnyConfig
    image_size: int = 0  # of a CLIPpy's training images; the public code's are those of the position embedding
    epoch: int = 0
    name: str = ""
    optimizer: Mapping[str, Any] | None = None  # the state of PyTorch's AdamW

    def differences(self) -> Differences:
        """How the keys and shapes depart from those of the model."""
        return differences(self.tensors, self.rules, parameter_shapes(self.config), self.source)

    def to_params(self, allow_partial: bool = False) -> tuple[dict[str, Any], Differences]:
        """The parameters, and what in the file was other than it should be.

        Args:
          allow_partial: leave what is missing or misshapen at a random initialisation, and ignore what is unexpected.

        Raises:
          InputError: keys are missing, unexpected or misshapen, or values are not finite numbers.
        """
        wrong = self.differences()
        if wrong and not allow_partial:
            raise InputError(f"{self.source} does not fit the model: {wrong}")
        ignored = {*wrong.left, *wrong.unexpected}
        tensors = {key: value for key, value in self.tensors.items() if key not in ignored}
        _check_values(tensors, self.source)
        like = parameter_shapes(self.config)
        if wrong.left:
            fresh = initial_params(self.config, flatten_dict(like, sep="/"))
            fresh = to_torch(unflatten_dict(fresh, sep="/"), self.rules)
            tensors |= {key: fresh[key] for key in wrong.left}
        return to_flax(tensors, self.rules, like, self.source), wrong


def read_weights(path: str, network: Network = "teacher") -> TorchWeights:
    """Reads any of the PyTorch weights that we know.

    Args:
      path: a file of a DINO, DINOv2, DINOv3 or SigLIP backbone or of a CLIPpy, a sentence-transformers folder, a
        folder of transformers' or timm's ViT, or the name of one of these on the Hugging Face hub.
      network: which of the two networks in a DINO training checkpoint.

    Raises:
      InputError: it cannot be read or is something else.
    """
    path = find_weights(path)
    kind = kind_of(path)
    if kind == Kind.SENTENCE_T5:
        tensors, settings = read_sentence_t5(path)
        rules = text_rules(is_gated(tensors))
        config = dataclasses.replace(_sizes(text_sizes, tensors, rules, path), **settings)
        return TorchWeights(path, kind, tensors, rules, config)
    if kind:
        raise InputError(f"{path} is a {kind}; a {Kind.BACKBONE}, {Kind.CLIPPY} or {Kind.SENTENCE_T5} is wanted")
    kind, tensors, saved_with = read_state_dict(path, network)
    if kind == Kind.BACKBONE:
        rules = image_rules(ImageParts.of_keys(tensors))
        return TorchWeights(path, kind, tensors, rules, _sizes(image_sizes, tensors, rules, path))
    parts = ImageParts.of_keys(tensors, IMAGE_PREFIX)
    rules = clippy_rules(is_gated(tensors), "visual.head.proj.weight" in tensors, parts)
    # Only files of ours describe the model, beyond what weights tell.
    described = saved_with.get("model_config") or dataclasses.asdict(_sizes(clippy_sizes, tensors, rules, path))
    config, image_size = parse_description(described, saved_with.get("image_size"), path)
    with reading(f"{path}: its epoch", wrong=f"is {saved_with.get('epoch')!r}, not a number"):
        epoch = int(saved_with.get("epoch", 0))
    name, optimizer = str(saved_with.get("name", "")), saved_with.get("optimizer")
    return TorchWeights(path, kind, tensors, rules, config, image_size, epoch, name, optimizer)


def parameter_shapes(config: AnyConfig) -> dict[str, Any]:
    """The parameter tree of a tower or of both, with shapes in place of arrays."""
    return jax.eval_shape(lambda: _initialise(config))


def initial_params(config: AnyConfig, paths: Collection[str]) -> dict[str, Any]:
    """Freshly initialised parameters in host memory, the same each time; only those at `paths` are computed.

    Returns:
      Path to array.
    """

    @jax.jit
    def initialise():
        params = flatten_dict(_initialise(config), sep="/")
        return {path: params[path] for path in paths}

    return jax.tree.map(np.asarray, initialise())


def _initialise(config: AnyConfig) -> dict[str, Any]:
    key, precision = jax.random.key(0), precision_of("float32")
    match config:
        case ImageTowerConfig():
            images = jnp.zeros((1, config.image_size, config.image_size, 3))
            return VisionTransformer(config, precision).init(key, images)["params"]
        case TextTowerConfig():
            return SentenceT5(config, precision).init(key, packs_of_one(jnp.ones((1, 2), jnp.int32)))["params"]
        case ModelConfig():
            return init_params(config, config.image.image_size, key)


def _sizes(
    read: Callable[[Mapping[str, Any], str], AnyConfig],
    tensors: Mapping[str, np.ndarray],
    rules: tuple[Rule, ...],
    source: str,
) -> Any:
    try:
        return read(flax_shapes(tensors, rules), source)
    except (KeyError, ValueError):
        wrong = differences(tensors, rules, source=source)
        raise InputError(
            f"{source} does not fit the model: {wrong or 'its tensors have shapes that fit no model'}"
        ) from None


def _check_values(tensors: Mapping[str, np.ndarray], source: str) -> None:
    others = [key for key, value in tensors.items() if value.dtype.kind != "f"]
    if others:
        raise InputError(f"{source} holds other than floating-point numbers in {some(others)}; give plain weights")
    broken = [key for key, value in tensors.items() if not np.isfinite(value).all()]
    if broken:
        raise InputError(f"{source} holds NaN or infinite values in {len(broken)} tensors: {some(broken)}")
