"""A PyTorch state dict with what is needed to turn it into parameters: its table and its sizes."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clippy_jax.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from clippy_jax.errors import InputError
from clippy_jax.models.clippy import CLIPpy
from clippy_jax.models.packed_texts import packs_of_one
from clippy_jax.models.precision import precision_of
from clippy_jax.models.t5 import SentenceT5
from clippy_jax.models.vit import VisionTransformer
from clippy_jax.weights.rules import Rule, differences, to_flax, to_torch

Kind = Literal["DINO backbone", "Sentence-T5 folder", "CLIPpy checkpoint"]


@dataclasses.dataclass(frozen=True)
class StateDict:
    """What a file or folder holds, not yet checked against the sizes it is said to have."""

    source: str  # the file or folder
    kind: Kind
    tensors: Mapping[str, np.ndarray]  # under the keys of `rules`
    rules: tuple[Rule, ...]
    config: ImageTowerConfig | TextTowerConfig | ModelConfig
    epoch: int = 0
    name: str = ""
    optimizer: Mapping[str, Any] | None = None  # the state of PyTorch's AdamW

    def to_params(self, allow_partial: bool = False) -> tuple[dict[str, Any], list[str]]:
        """The parameters, and the keys of those that the file did not give.

        Args:
          allow_partial: leave what is missing or misshapen at a random initialisation, and ignore what is unexpected.

        Raises:
          InputError: keys are missing, unexpected or misshapen (all are listed), or values are not finite numbers.
        """
        like = parameter_shapes(self.config)
        wrong = differences(self.tensors, self.rules, like, self.source)
        if wrong and not allow_partial:
            raise InputError(f"{self.source} does not fit the model: {wrong}")
        left = [*wrong.missing, *(key for key, _, _ in wrong.misshapen)]
        ignored = {*left, *wrong.unexpected}
        tensors = {key: value for key, value in self.tensors.items() if key not in ignored}
        _check_values(tensors, self.source)
        if left:
            fresh = initial_params(self.config, flatten_dict(like, sep="/"))
            fresh = to_torch(unflatten_dict(fresh, sep="/"), self.rules)
            tensors |= {key: fresh[key] for key in left}
        return to_flax(tensors, self.rules, like, self.source), left


def model_of(config: ImageTowerConfig | TextTowerConfig | ModelConfig) -> tuple[Any, tuple[Any, ...]]:
    """The Flax module of a tower or of both, and inputs to initialise it with."""
    precision = precision_of("float32")
    tokens = jnp.ones((1, 2), jnp.int32)
    match config:
        case ImageTowerConfig():
            return VisionTransformer(config, precision), (_blank(config, jnp.float32),)
        case TextTowerConfig():
            return SentenceT5(config, precision), (packs_of_one(tokens),)
        case ModelConfig():
            return CLIPpy(config), (_blank(config.image, jnp.uint8), tokens)


def parameter_shapes(config: ImageTowerConfig | TextTowerConfig | ModelConfig) -> dict[str, Any]:
    """The parameter tree of a tower or of both, with shapes in place of arrays."""
    model, inputs = model_of(config)
    return jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]


def initial_params(config: ImageTowerConfig | TextTowerConfig | ModelConfig, paths: Collection[str]) -> dict[str, Any]:
    """Freshly initialised parameters in host memory, the same each time; only those at `paths` are computed.

    Returns:
      Path to array.
    """
    model, inputs = model_of(config)

    @jax.jit
    def initialise():
        params = flatten_dict(model.init(jax.random.key(0), *inputs)["params"], sep="/")
        return {path: params[path] for path in paths}

    return jax.tree.map(np.asarray, initialise())


def _blank(config: ImageTowerConfig, dtype: Any) -> jax.Array:
    return jnp.zeros((1, config.image_size, config.image_size, 3), dtype)


def _check_values(tensors: Mapping[str, np.ndarray], source: str) -> None:
    others = [key for key, value in tensors.items() if value.dtype.kind != "f"]
    if others:
        raise InputError(f"{source} holds other than floating-point numbers in {', '.join(others)}; give plain weights")
    broken = [key for key, value in tensors.items() if not np.isfinite(value).all()]
    if broken:
        raise InputError(f"{source} holds NaN or infinite values in {len(broken)} tensors: {', '.join(broken)}")
