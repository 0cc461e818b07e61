"""What a conversion table is made of, and the two directions in which one is read.

A table is a tuple of `Rule`s, one for each parameter of a model, in the order of the PyTorch module. Everything here
is a pure function over dictionaries of NumPy arrays; `torch_names.py` and `image_names.py` hold the tables.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clippy_jax.errors import InputError

LAYER = "{layer}"  # in a torch key: the number of the block


class Transform(NamedTuple):
    """How one tensor becomes a parameter, and back. Both directions only move values: they are exact."""

    to_flax: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]
    rank: int | None = None  # dimensions of the tensor; None for any


def _convolution_to_flax(weight: np.ndarray) -> np.ndarray:
    """[out, channel, row, column] to [(row, column, channel), out]."""
    return weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])


def _convolution_to_torch(kernel: np.ndarray) -> np.ndarray:
    size = round((kernel.shape[0] / 3) ** 0.5)
    return kernel.reshape(size, size, 3, kernel.shape[1]).transpose(3, 2, 0, 1)


SAME = Transform(lambda x: x, lambda x: x)
TRANSPOSED = Transform(lambda x: x.T, lambda x: x.T, 2)  # a linear layer: [out, in] to [in, out]
# A fused bias whose keys' third is not used, to [queries or values, D].
QUERY_VALUE = Transform(
    lambda x: x.reshape(3, -1)[::2],
    lambda x: np.concatenate([x[0], np.zeros_like(x[0]), x[1]]),
    1,
)
PATCHES = Transform(_convolution_to_flax, _convolution_to_torch, 4)  # a convolution whose stride is its size


class Rule(NamedTuple):
    """One parameter: its torch key, its path in the parameter tree, and what lies between the two.

    A key with `{layer}` stands for one tensor in each block, which are stacked along the first dimension of a path
    through `blocks`. With any other path, only block 0 has the tensor.
    """

    key: str
    path: str
    transform: Transform = SAME
    alias: str | None = None  # a second key for the same tensor: either is read, both are written

    @property
    def block(self) -> str | None:
        """The key up to the layer number, or None for a parameter outside the blocks."""
        return self.key.partition(LAYER)[0] if LAYER in self.key else None

    @property
    def stacked(self) -> bool:
        return "blocks" in self.path.split("/")


def linear(key: str, path: str) -> tuple[Rule, Rule]:
    """The rules of a linear layer with a bias."""
    return matrix(key, path), Rule(f"{key}.bias", f"{path}/bias")


def matrix(key: str, path: str) -> Rule:
    """The rule of a linear layer without a bias."""
    return Rule(f"{key}.weight", f"{path}/kernel", TRANSPOSED)


def layer_norm(key: str, path: str) -> tuple[Rule, Rule]:
    """The rules of a LayerNorm."""
    return Rule(f"{key}.weight", f"{path}/scale"), Rule(f"{key}.bias", f"{path}/bias")


class Differences(NamedTuple):
    """How a state dict departs from what a table wants."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]  # key, its shape, the wanted shape

    def __bool__(self) -> bool:
        return any(self)

    def __str__(self) -> str:
        return "; ".join(f"{len(keys)} {kind}: {some(keys)}" for kind, keys in self.by_kind().items() if keys)

    @property
    def left(self) -> list[str]:
        """The keys of the model that the state dict does not give, or not in their shape."""
        return [*self.missing, *(key for key, _, _ in self.misshapen)]

    def by_kind(self) -> dict[str, Sequence[str]]:
        """The names of the fields, and what each holds in words."""
        misshapen = [f"{key} is {list(has)} instead of {list(wants)}" for key, has, wants in self.misshapen]
        return {"missing": self.missing, "unexpected": self.unexpected, "misshapen": misshapen}


def some(names: Sequence[str]) -> str:
    """The first dozen of a list, and how many more there are."""
    rest = len(names) - 12
    return ", ".join(names[:12]) + (f" and {rest:,} more" if rest > 0 else "")


def prefixed(rules: tuple[Rule, ...], key: str, path: str) -> tuple[Rule, ...]:
    """The same rules for a model that holds this one under a longer key and a deeper path."""
    return tuple(
        Rule(key + rule.key, path + rule.path, rule.transform, rule.alias and key + rule.alias) for rule in rules
    )


def to_flax(
    tensors: Mapping[str, np.ndarray],
    rules: tuple[Rule, ...],
    like: Mapping[str, Any] | None = None,
    source: str = "the state dict",
) -> dict[str, Any]:
    """Turns a PyTorch state dict into a float32 parameter tree.

    Args:
      tensors: key to array, in any floating-point type.
      rules: the table of the model.
      like: a parameter tree (arrays or their shapes) that the result must have the shape of; without it, the number of
        blocks is counted and the blocks only have to be alike.
      source: how an error message names the state dict.

    Raises:
      InputError: keys are missing, unexpected or misshapen; the message lists them.
    """
    if wrong := differences(tensors, rules, like, source):
        raise InputError(f"{source} does not fit the model: {wrong}")
    tensors = _merge_aliases(tensors, rules, source)
    depths = _depths_of_tensors(tensors, rules)
    params = {}
    for key, rule, layer in _expand(rules, depths):
        value = rule.transform.to_flax(tensors[key])
        if rule.stacked:
            if layer == 0:
                params[rule.path] = np.empty((depths[rule.block], *value.shape), np.float32)
            params[rule.path][layer] = value
        else:
            params[rule.path] = np.array(value, np.float32, order="C")
    return unflatten_dict(params, sep="/")


def to_torch(params: Mapping[str, Any], rules: tuple[Rule, ...]) -> dict[str, np.ndarray]:
    """Turns a parameter tree into a PyTorch state dict: the tensors in the order of the module, aliases included.

    The arrays may be views of `params`.

    Raises:
      ValueError: the tree does not have exactly the table's paths.
    """
    flat = flatten_dict(dict(params), sep="/")
    paths = {rule.path for rule in rules}
    if flat.keys() != paths:
        raise ValueError(f"parameters and table differ in {sorted(flat.keys() ^ paths)}")
    tensors = {}
    depths = {rule.block: flat[rule.path].shape[0] for rule in rules if rule.stacked}
    for key, rule, layer in _expand(rules, depths):
        value = flat[rule.path][layer] if rule.stacked else flat[rule.path]
        tensors[key] = rule.transform.to_torch(np.asarray(value))
        if rule.alias:
            tensors[rule.alias] = tensors[key]
    return tensors


def torch_shapes(like: Mapping[str, Any], rules: tuple[Rule, ...]) -> dict[str, tuple[int, ...]]:
    """Key to shape of the state dict that `to_torch` makes of a parameter tree, of which only the shapes are read."""
    hollow = {path: _hollow(value.shape) for path, value in flatten_dict(dict(like), sep="/").items()}
    return {key: value.shape for key, value in to_torch(unflatten_dict(hollow, sep="/"), rules).items()}


def flax_shapes(tensors: Mapping[str, np.ndarray], rules: tuple[Rule, ...]) -> dict[str, Any]:
    """The tree that `to_flax` makes of a state dict, with shapes in place of arrays, as far as block 0 shows them."""
    depths, shapes = _depths_of_tensors(tensors, rules), {}
    for rule in rules:
        keys = (key.replace(LAYER, "0") for key in (rule.key, rule.alias) if key)
        shape = next((tensors[key].shape for key in keys if key in tensors), None)
        if shape and 0 not in shape and rule.transform.rank in (None, len(shape)):
            depth = (depths[rule.block],) if rule.stacked else ()
            shapes[rule.path] = depth + rule.transform.to_flax(_hollow(shape)).shape
    return unflatten_dict(shapes, sep="/")


def differences(
    tensors: Mapping[str, np.ndarray],
    rules: tuple[Rule, ...],
    like: Mapping[str, Any] | None = None,
    source: str = "the state dict",
) -> Differences:
    """What `to_flax` would refuse; arguments as there."""
    tensors = _merge_aliases(tensors, rules, source)
    if like is None:  # every block must be as the first
        models = {
            key: rule.key.replace(LAYER, "0") for key, rule, _ in _expand(rules, _depths_of_tensors(tensors, rules))
        }
        wanted = {key: tensors[model].shape if model in tensors else None for key, model in models.items()}
    else:
        aliases = {rule.alias for rule in rules}
        wanted = {key: shape for key, shape in torch_shapes(like, rules).items() if key not in aliases}
    return Differences(
        missing=tuple(key for key in wanted if key not in tensors),
        unexpected=tuple(key for key in tensors if key not in wanted),
        misshapen=tuple(
            (key, tensors[key].shape, shape)
            for key, shape in wanted.items()
            if key in tensors and shape is not None and tensors[key].shape != shape
        ),
    )


def _depths_of_tensors(tensors: Mapping[str, np.ndarray], rules: tuple[Rule, ...]) -> dict[str, int]:
    """The number of blocks under each block prefix; at least 1, so that a lost block shows as missing."""
    blocks = {rule.block for rule in rules if rule.block}
    numbers = {block: re.findall(rf"^{re.escape(block)}(\d{{1,4}})\.", "\n".join(tensors), re.M) for block in blocks}
    return {block: max(map(int, found), default=0) + 1 for block, found in numbers.items()}


def _hollow(shape: tuple[int, ...]) -> np.ndarray:
    """A zero seen from everywhere: an array that needs no memory."""
    return np.broadcast_to(np.float32(0), shape)


def _merge_aliases(tensors: Mapping[str, np.ndarray], rules: tuple[Rule, ...], source: str) -> Mapping[str, np.ndarray]:
    """The tensors with each shared one under the rule's key alone."""
    merged = dict(tensors)
    for rule in rules:
        if rule.alias in merged:
            copy = merged.pop(rule.alias)
            if not np.array_equal(merged.setdefault(rule.key, copy), copy, equal_nan=True):
                raise InputError(
                    f"{source} has two different versions of one tensor: {rule.key} and {rule.alias}; "
                    "remove the wrong one"
                )
    return merged


def _expand(rules: tuple[Rule, ...], depths: Mapping[str, int]) -> Iterator[tuple[str, Rule, int]]:
    """Each tensor as (key, rule, layer), block by block where the rules are of blocks."""
    for block, group in itertools.groupby(rules, key=lambda rule: rule.block):
        group = tuple(group)
        for layer in range(depths[block] if block else 1):
            for rule in group:
                if rule.stacked or layer == 0:
                    yield rule.key.replace(LAYER, str(layer)), rule, layer
