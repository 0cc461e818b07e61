"""From a nested mapping (a `ConfigDict`, the JSON in a workdir) to frozen dataclasses, with a check of every value."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from clippy_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`, as an annotation of a field; an open end is not a value itself."""

    low: float
    high: float = math.inf
    low_is_open: bool = False
    high_is_open: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_is_open else value >= self.low
        below = value < self.high if self.high_is_open else value <= self.high
        return above and below

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'above' if self.low_is_open else 'at least'} {self.low}"
        return f"in {'(' if self.low_is_open else '['}{self.low}, {self.high}{')' if self.high_is_open else ']'}"


def parse_value(value: Any, wanted: Any, path: str, unknown_keys: Literal["refuse", "ignore"] = "refuse") -> Any:
    """Turns a value into the type that its field has.

    Args:
      value: what was given: a mapping for a dataclass or a dict, a tuple or a list for a tuple.
      wanted: a dataclass, `dict[str, T]`, `tuple[T, ...]`, `Literal[...]`, `Annotated[T, Range]`, or a plain type. A
        field of a dataclass that has a default may be missing.
      path: the name of the value, for messages.
      unknown_keys: whether keys that a dataclass does not have are errors.

    Raises:
      InputError: a key is unknown or missing, or a value is of another type, outside its range or not finite.
    """
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is Annotated:
        number = parse_value(value, arguments[0], path)
        if number not in arguments[1]:
            raise InputError(f"{path} must be {arguments[1]}, not {number!r}")
        return number
    if dataclasses.is_dataclass(wanted):
        types = typing.get_type_hints(wanted, include_extras=True)
        defaults = {field.name for field in dataclasses.fields(wanted) if field.default is not dataclasses.MISSING}
        _check_group(value, path)
        if unknown_keys == "refuse":
            for key in value.keys():
                check_key(key, types, path)
        for key in types:
            if key not in value and key not in defaults:
                raise InputError(f"{path}.{key} is missing; it must be {_name(types[key])}")
        given = {key: kind for key, kind in types.items() if key in value}
        return wanted(
            **{key: parse_value(value[key], kind, f"{path}.{key}", unknown_keys) for key, kind in given.items()}
        )
    if origin is dict:
        _check_group(value, path)
        return {key: parse_value(value[key], arguments[1], f"{path}.{key}", unknown_keys) for key in value.keys()}
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            raise InputError(f"{path} must be a tuple, not {value!r}")
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(value) != len(kinds):
            raise InputError(f"{path} must have {len(kinds)} items, not {value!r}")
        return tuple(parse_value(item, kind, f"{path}[{i}]") for i, (item, kind) in enumerate(zip(value, kinds)))
    if origin is Literal:
        fits = value in arguments
    elif wanted is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    else:
        fits = isinstance(value, wanted) and not (wanted is int and isinstance(value, bool))
    if not fits:
        raise InputError(f"{path} must be {_name(wanted)}, not {value!r}")
    if wanted is float and not math.isfinite(value):
        raise InputError(f"{path} must be a finite number, not {value!r}")
    return float(value) if wanted is float else value


def check_key(key: str, known: Iterable[str], path: str) -> None:
    """Raises `InputError`, with the closest known key, if the group `path` has no such key."""
    if key not in (known := list(known)):
        close = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
        raise InputError(f"{path}.{key} is not a configuration key; {hint}")


def check_path(keys: Iterable[str], values: Any, path: str = "config") -> None:
    """Raises `InputError` if a nested mapping has no field at the end of a path of keys."""
    for key in keys:
        if not hasattr(values, "keys"):
            raise InputError(f"{path}.{key} is not a configuration key; {path} is a value, {values!r}, not a group")
        check_key(key, values.keys(), path)
        values, path = values[key], f"{path}.{key}"


def _check_group(value: Any, path: str) -> None:
    if not isinstance(value, Mapping) and not hasattr(value, "items"):
        raise InputError(f"{path} must be a group of fields, not {value!r}")


def _name(wanted: Any) -> str:
    if typing.get_origin(wanted) is Annotated:
        wanted = typing.get_args(wanted)[0]
    if typing.get_origin(wanted) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(wanted))
    return wanted.__name__ if typing.get_origin(wanted) is None else str(wanted)
