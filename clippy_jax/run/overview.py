"""What a run prints before its first step: the resolved configuration and the parameters."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from clippy_jax.config import Config


def config_fields(config: Config) -> dict[str, Any]:
    """Every field of a configuration by the name that overrides it: `config.model.image.width` → 768."""
    fields = {}

    def visit(value: Any, path: str) -> None:
        if dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                visit(getattr(value, field.name), f"{path}.{field.name}")
        elif isinstance(value, dict):
            for key, item in value.items():
                visit(item, f"{path}.{key}")
        else:
            fields[path] = value

    visit(config, "config")
    return fields


def config_overview(config: Config) -> str:
    """The resolved configuration, a line per field."""
    fields = config_fields(config)
    width = max(map(len, fields))
    return "\n".join(f"{name:{width}}  {value!r}" for name, value in fields.items())


def parameter_overview(params: Mapping[str, Any]) -> str:
    """A table of the parameters (name, shape, count), with a total per tower and for all.

    Args:
      params: nested dictionary of arrays, or of anything with a shape; the towers are its top-level keys.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    rows = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), str(tuple(leaf.shape)), math.prod(leaf.shape))
        for path, leaf in leaves
    ]
    totals: dict[str, int] = {}
    for name, _, count in rows:
        tower = name.split("/")[0]
        totals[tower] = totals.get(tower, 0) + count
    rows += [(f"total {tower}", "", count) for tower, count in totals.items()]
    rows.append(("total", "", sum(totals.values())))
    name_width = max(len(name) for name, _, _ in rows)
    shape_width = max(len(shape) for _, shape, _ in rows)
    return "\n".join(f"{name:{name_width}}  {shape:{shape_width}}  {count:>13,}" for name, shape, count in rows)
