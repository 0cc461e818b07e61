"""Adam's moments ↔ the optimizer state that PyTorch's AdamW saves.

PyTorch numbers the parameters, group after group. The public code has two groups, without and with weight decay, each
in the order of the module.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from clippy_jax.errors import InputError, reading
from clippy_jax.weights.checkpoint import Moments
from clippy_jax.weights.rules import Rule, to_flax, to_torch, torch_shapes

WITHOUT = "pass --skip_optimizer to convert the weights alone"  # what to do about an optimizer
_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}


def read_moments(
    optimizer: Mapping[str, Any], rules: tuple[Rule, ...], like: Mapping[str, Any], source: str
) -> Moments | None:
    """Turns the state of PyTorch's AdamW into moments, or into None if it was saved before the first update.

    Args:
      optimizer: the optimizer's `state_dict()`.
      rules: the table of the model.
      like: the parameter tree (arrays or their shapes).
      source: how an error message names the file.

    Raises:
      InputError: it is not the state of an AdamW with the public code's two groups for this model.
    """
    with reading(f"{source}: its optimizer", WITHOUT, "is not PyTorch's AdamW"):
        state, groups = optimizer["state"], optimizer["param_groups"]
        numbers = [group["params"] for group in groups]
        if not state:
            return None
        trained, names = _match_groups(numbers, rules, like, source)
        entries = {name: state[number] for name, number in zip(names, sum(numbers, []))}
        unknown = {key for entry in entries.values() for key in entry} - _MOMENTS
        steps = {int(entry["step"]) for entry in entries.values()}
        mean, square = ({name: entry[key] for name, entry in entries.items()} for key in ("exp_avg", "exp_avg_sq"))
        if not all(isinstance(value, np.ndarray) for value in (*mean.values(), *square.values())):
            raise TypeError("its moments are no tensors")
        if not _is_plain(groups):
            raise TypeError("its settings are more than numbers and text")
    if unknown:
        raise InputError(f"{source}: its optimizer has {', '.join(sorted(unknown))}, which AdamW has not; {WITHOUT}")
    if len(steps) != 1:
        raise InputError(f"{source}: its optimizer has made {sorted(steps)} steps, not the same for all; {WITHOUT}")
    like = {name: value for name, value in like.items() if name in _parts(trained)}
    return Moments(
        step=steps.pop(),
        mean=to_flax(mean, trained, like, f"{source}: exp_avg of its optimizer"),
        square=to_flax(square, trained, like, f"{source}: exp_avg_sq of its optimizer"),
        groups=tuple({key: value for key, value in group.items() if key != "params"} for group in groups),
    )


def write_moments(moments: Moments, rules: tuple[Rule, ...]) -> dict[str, Any]:
    """Turns moments into the `state_dict()` of PyTorch's AdamW."""
    trained = tuple(rule for rule in rules if rule.path.split("/")[0] in moments.mean)
    mean, square = to_torch(moments.mean, trained), to_torch(moments.square, trained)
    exempt, decayed = _public_groups(trained, moments.mean)
    numbers = list(range(len(exempt) + len(decayed)))
    numbers = numbers[: len(exempt)], numbers[len(exempt) :]

    def entry(name: str) -> dict[str, np.ndarray]:
        step = np.array(moments.step, np.float32)  # an array for each: PyTorch counts in place
        return {"step": step, "exp_avg": mean[name], "exp_avg_sq": square[name]}

    return {
        "state": {number: entry(name) for number, name in enumerate(exempt + decayed)},
        "param_groups": [{**group, "params": params} for group, params in zip(moments.groups, numbers)],
    }


def _match_groups(
    numbers: list[list[int]], rules: tuple[Rule, ...], like: Mapping[str, Any], source: str
) -> tuple[tuple[Rule, ...], list[str]]:
    """The rules of the trained parameters, and their names in the order of the groups: all of them, or all but those of
    a frozen tower, which PyTorch does not list."""
    for frozen in (), ("image",), ("text",):
        trained = tuple(rule for rule in rules if rule.path.split("/")[0] not in frozen)
        groups = _public_groups(trained, {name: like[name] for name in _parts(trained)})
        if [len(group) for group in groups] == [len(group) for group in numbers]:
            return trained, groups[0] + groups[1]
    raise InputError(
        f"{source}: its optimizer has groups of {[len(group) for group in numbers]} parameters, "
        f"not {[len(group) for group in _public_groups(rules, like)]} as the public code; {WITHOUT}"
    )


def _public_groups(rules: tuple[Rule, ...], like: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The names without and with weight decay, by the public code's rule. A shared tensor counts once."""
    shapes = torch_shapes(like, rules)
    for rule in rules:
        shapes.pop(rule.alias, None)
    exempt = [
        name
        for name, shape in shapes.items()
        if len(shape) < 2 or any(word in name for word in ("bn", "ln", "bias", "logit_scale"))
    ]
    return exempt, [name for name in shapes if name not in exempt]


def _is_plain(value: Any) -> bool:
    """Whether something is what JSON has, or an array; anything else has lost what it was (`torch_file.py`)."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, np.ndarray))


def _parts(rules: tuple[Rule, ...]) -> set[str]:
    """The top-level names of the parameter tree."""
    return {rule.path.split("/")[0] for rule in rules}
