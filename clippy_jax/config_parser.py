"""From a nested mapping (a `ConfigDict`, the JSON in a workdir) to frozen dataclasses, with a check of every value."""

import dataclasses
import difflib
import sys
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from clippy_jax.errors import InputError


def parse_value(value: Any, wanted: Any, path: str, ignore_unknown: bool = False) -> Any:
    """Turns a value into the type that its field has.

    Args:
      value: what was given: a mapping for a dataclass or a dict, a tuple or a list for a tuple.
      wanted: a dataclass, `dict[str, T]`, `tuple[T, ...]`, `Literal[...]`, a plain type, or
        `Annotated[T, "at least 1", function]` with what holds of the value, in words and as a function. A field of a
        dataclass that has a default may be missing.
      path: the name of the value, for messages.
      ignore_unknown: pass over keys that a dataclass does not have, instead of refusing them.

    Raises:
      InputError: a key is unknown or missing, or a value is of another type, outside its range or not finite.
    """
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is Annotated:
        kind, condition, holds = arguments
        value = parse_value(value, kind, path)
        if not holds(value):
            raise InputError(f"{path} must be {condition}, not {value!r}")
        return value
    if dataclasses.is_dataclass(wanted) or origin is dict:
        if not hasattr(value, "items"):
            raise InputError(f"{path} must be a group of fields, not {value!r}")
        if origin is dict:
            return {key: parse_value(value[key], arguments[1], f"{path}.{key}", ignore_unknown) for key in value.keys()}
        kinds = typing.get_type_hints(wanted, include_extras=True)
        for key in value.keys():
            if not ignore_unknown:
                check_key(key, kinds, path)
        for field in dataclasses.fields(wanted):
            if field.name not in value and field.default is dataclasses.MISSING:
                raise InputError(f"{path}.{field.name} is missing; it must be {_name(kinds[field.name])}")
        given = {key: kind for key, kind in kinds.items() if key in value}
        return wanted(**{key: parse_value(value[key], given[key], f"{path}.{key}", ignore_unknown) for key in given})
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            raise InputError(f"{path} must be a tuple, not {value!r}")
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(value) != len(kinds):
            raise InputError(f"{path} must have {len(kinds)} items, not {value!r}")
        return tuple(parse_value(item, kind, f"{path}[{i}]") for i, (item, kind) in enumerate(zip(value, kinds)))
    if origin is Literal:
        fits = value in arguments
    else:
        allowed = (int, float) if wanted is float else wanted
        fits = isinstance(value, allowed) and not (wanted in (int, float) and isinstance(value, bool))
    if not fits:
        raise InputError(f"{path} must be {_name(wanted)}, not {value!r}")
    if wanted is float and not abs(value) <= sys.float_info.max:
        raise InputError(f"{path} must be a finite number, not {value!r}")
    return float(value) if wanted is float else value


def check_key(key: str, known: Iterable[str], path: str) -> None:
    """Raises `InputError`, with the closest known key, if the group `path` has no such key."""
    if key not in (known := list(known)):
        close = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
        raise InputError(f"{path}.{key} is not a configuration key; {hint}")


def check_path(keys: Iterable[str], values: Any) -> None:
    """Raises `InputError` if a configuration, as a nested mapping, has no field at the end of a path of keys."""
    path = "config"
    for key in keys:
        if not hasattr(values, "keys"):
            raise InputError(f"{path}.{key} is not a configuration key; {path} is a value, {values!r}, not a group")
        check_key(key, values.keys(), path)
        values, path = values[key], f"{path}.{key}"


def _name(wanted: Any) -> str:
    if typing.get_origin(wanted) is Annotated:
        wanted = typing.get_args(wanted)[0]
    if typing.get_origin(wanted) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(wanted))
    return wanted.__name__ if typing.get_origin(wanted) is None else str(wanted)
