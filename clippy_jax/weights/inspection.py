"""What a file or folder of weights is, as a table to read."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from clippy_jax.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from clippy_jax.weights.kinds import Kind, find_weights, kind_of
from clippy_jax.weights.load import load_checkpoint
from clippy_jax.weights.rules import some
from clippy_jax.weights.state_dict import Network
from clippy_jax.weights.towers import TorchWeights, read_weights


def inspect(path: str, network: Network = "teacher") -> str:
    """Describes PyTorch weights, a converted folder or the newest checkpoint of a run.

    Raises:
      InputError: it cannot be read or is none of these.
    """
    path = find_weights(path)
    kind = kind_of(path)
    if kind in (Kind.CONVERTED, Kind.RUN):
        rows = [("is a", kind), *_checkpoint_rows(path, kind)]
    else:
        weights = read_weights(path, network)
        rows = [("is a", weights.kind), *_torch_rows(weights)]
    width = max(len(name) for name, _ in rows)
    return "\n".join([path, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def _torch_rows(weights: TorchWeights) -> Iterator[tuple[str, str]]:
    if weights.kind == Kind.CLIPPY:
        yield "name", f"{weights.name or '-'}, epoch {weights.epoch}"
    yield from _size_rows(weights.config)
    tensors = weights.tensors
    types = Counter(str(value.dtype) for value in tensors.values())
    yield "keys", f"{len(tensors):,} ({', '.join(f'{count:,} {name}' for name, count in types.items())})"
    copies = {rule.alias for rule in weights.rules if rule.key in tensors}  # a shared tensor counts once
    words = 2 if weights.kind == Kind.CLIPPY else 1
    parts = Counter()
    for key, value in tensors.items():
        if key not in copies:
            parts[".".join(key.split(".")[:words])] += value.size
    yield from _parameter_rows(parts)
    yield "optimizer", _optimizer(weights.optimizer)
    for name, keys in weights.differences().by_kind().items():
        yield name, some(keys) or "none"
    broken = [key for key, value in tensors.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
    yield "not finite", some(broken) or "none"


def _checkpoint_rows(path: str, kind: Kind) -> Iterator[tuple[str, str]]:
    checkpoint = load_checkpoint(path, with_moments=kind == Kind.CONVERTED)
    yield "name", f"{checkpoint.name or '-'}, epoch {checkpoint.epoch}"
    yield from _size_rows(checkpoint.config)
    yield "pooling", checkpoint.config.pooling
    yield "trained at", f"{checkpoint.image_size} pixels"
    parts = {part: sum(leaf.size for leaf in jax.tree.leaves(tree)) for part, tree in checkpoint.params.items()}
    yield from _parameter_rows(parts)
    steps = checkpoint.moments and checkpoint.moments.step
    if kind == Kind.RUN:  # whose moments, twice as much as the parameters, need not be read
        from clippy_jax.run.checkpointing import restore_arrays  # here, since it needs Orbax

        steps = int(restore_arrays(path, ("step",))[0])
    yield "optimizer", "none" if steps is None else f"AdamW after {steps:,} steps"
    yield "tokenizer", checkpoint.tokenizer or "none"


def _parameter_rows(parts: dict[str, int]) -> Iterator[tuple[str, str]]:
    yield "parameters", f"{sum(parts.values()):,}"
    for part, count in parts.items():
        yield f"  {part}", f"{count:,}"


def _size_rows(config: ImageTowerConfig | TextTowerConfig | ModelConfig) -> Iterator[tuple[str, str]]:
    if isinstance(config, ModelConfig):
        yield from _size_rows(config.image)
        yield from _size_rows(config.text)
        yield "projection", "of the image embedding" if config.image_projection else "none"
    else:
        tower = "image tower" if isinstance(config, ImageTowerConfig) else "text tower"
        yield tower, ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(config).items())


def _optimizer(optimizer: Any) -> str:
    try:
        steps = {int(entry["step"]) for entry in optimizer["state"].values()}
        sizes = [str(len(group["params"])) for group in optimizer["param_groups"]]
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        return "of a kind that is not known here" if optimizer else "none"
    return f"after {'/'.join(f'{step:,}' for step in sorted(steps)) or 'no'} steps, groups of {' and '.join(sizes)}"
