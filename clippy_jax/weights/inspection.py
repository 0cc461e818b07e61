"""What a file or folder of weights is, as a table to read."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from clippy_jax.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from clippy_jax.weights.converted_folder import is_converted_folder
from clippy_jax.weights.load import load_checkpoint
from clippy_jax.weights.rules import differences
from clippy_jax.weights.sources import Network, read_weights
from clippy_jax.weights.state_dict import StateDict, parameter_shapes


def inspect(path: str, network: Network = "teacher") -> str:
    """Describes PyTorch weights, a converted folder or the newest checkpoint of a run.

    Raises:
      InputError: it cannot be read or is none of these.
    """
    folder = Path(path)
    if is_converted_folder(path) or (folder / "checkpoints").is_dir():
        return _table(path, _checkpoint_rows(path))
    return _table(path, _state_dict_rows(read_weights(path, network)))


def _state_dict_rows(weights: StateDict) -> Iterator[tuple[str, str]]:
    yield "is a", weights.kind
    if weights.kind == "CLIPpy checkpoint":
        yield "name", f"{weights.name or '-'}, epoch {weights.epoch}"
    yield from _size_rows(weights.config)
    tensors = weights.tensors
    types = Counter(str(value.dtype) for value in tensors.values())
    yield "keys", f"{len(tensors):,} ({', '.join(f'{count:,} {name}' for name, count in types.items())})"
    copies = {rule.alias for rule in weights.rules if rule.key in tensors}  # a shared tensor counts once
    words = 2 if weights.kind == "CLIPpy checkpoint" else 1
    parts = Counter()
    for key, value in tensors.items():
        if key not in copies:
            parts[".".join(key.split(".")[:words])] += value.size
    yield "parameters", f"{sum(parts.values()):,}"
    for part, count in parts.items():
        yield f"  {part}", f"{count:,}"
    yield "optimizer", _optimizer(weights.optimizer)
    wrong = differences(tensors, weights.rules, parameter_shapes(weights.config), weights.source)
    yield "missing", ", ".join(wrong.missing) or "none"
    yield "unexpected", ", ".join(wrong.unexpected) or "none"
    misshapen = [f"{key} {list(has)} instead of {list(wants)}" for key, has, wants in wrong.misshapen]
    yield "misshapen", ", ".join(misshapen) or "none"
    broken = [key for key, value in tensors.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
    yield "not finite", ", ".join(broken) or "none"


def _checkpoint_rows(path: str) -> Iterator[tuple[str, str]]:
    checkpoint = load_checkpoint(path)
    yield "is a", "converted folder" if is_converted_folder(path) else "workdir of a run"
    yield "name", f"{checkpoint.name or '-'}, epoch {checkpoint.epoch}"
    yield from _size_rows(checkpoint.config)
    yield "pooling", checkpoint.config.pooling
    yield "parameters", f"{sum(value.size for value in jax.tree.leaves(checkpoint.params)):,}"
    for part, tree in checkpoint.params.items():
        yield f"  {part}", f"{sum(value.size for value in jax.tree.leaves(tree)):,}"
    moments = checkpoint.moments
    yield "optimizer", f"AdamW after {moments.step:,} steps" if moments else "none"
    yield "tokenizer", checkpoint.tokenizer or "none"


def _size_rows(config: ImageTowerConfig | TextTowerConfig | ModelConfig) -> Iterator[tuple[str, str]]:
    match config:
        case ModelConfig():
            yield from _size_rows(config.image)
            yield from _size_rows(config.text)
            yield "projection", "of the image embedding" if config.image_projection else "none"
        case ImageTowerConfig():
            yield (
                "image tower",
                f"ViT, {config.depth} blocks of width {config.width}, {config.heads} heads, MLP {config.mlp_width}, "
                f"patches of {config.patch_size} pixels, made for {config.image_size} pixels",
            )
        case TextTowerConfig():
            yield (
                "text tower",
                f"T5, {config.depth} blocks of width {config.width}, {config.heads} heads of {config.head_width}, "
                f"MLP {config.mlp_width}{' gated' if config.gated_mlp else ''}, {config.vocabulary_size:,} tokens, "
                f"embedding {config.embedding_width}",
            )


def _optimizer(optimizer: Any) -> str:
    try:
        steps = {int(entry["step"]) for entry in optimizer["state"].values()}
        sizes = [str(len(group["params"])) for group in optimizer["param_groups"]]
    except (KeyError, TypeError, AttributeError, ValueError):
        return "of a kind that is not known here" if optimizer else "none"
    return f"after {'/'.join(f'{step:,}' for step in sorted(steps)) or 'no'} steps, groups of {' and '.join(sizes)}"


def _table(path: str, rows: Iterator[tuple[str, str]]) -> str:
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join([path, *(f"  {name:<{width}}  {value}" for name, value in rows)])
