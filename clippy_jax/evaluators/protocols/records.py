"""Reads protocols: rows of `protocols.json`, or a file with one record of the same kind.

`standard` and `public` are this project's own; the others are those of methods whose tables are quoted. A record may be
`based_on` another, and have other values for some of the eight data sets.
"""

import dataclasses
import functools
import importlib.resources
import json
import pathlib
from collections.abc import Mapping
from typing import Any, get_args

from clippy_jax.datasets.label_layouts import LabelLayout
from clippy_jax.errors import InputError, reading
from clippy_jax.evaluators.protocols.protocol import COLUMNS, ONE_PROMPT, OPENAI, STANDARD, Protocol


def read(name: str, layout: LabelLayout, **options: Any) -> Protocol:
    """A protocol by its name or its file, as it is for one data set.

    Args:
      name: one of `names()`, or a JSON file.
      layout: the data set.
      options: values in the place of `standard`'s.

    Raises:
      InputError: there is no such protocol, its file is wrong, or the values do not fit the data set.
    """
    if options and name != STANDARD:
        raise InputError(f"protocol {name} fixes how images are fed and background is found; options need {STANDARD}")
    record = _record(name)
    of_data_set = record.pop("data_sets", {}).get(layout.column, {})
    templates = record.get("templates", ONE_PROMPT)
    if isinstance(templates, str):
        record["templates"] = _table()["templates"].get(templates, templates)
    protocol = Protocol(**{"name": name} | record | of_data_set | options)
    protocol.check(layout)
    return protocol


def names() -> tuple[str, ...]:
    """The protocols that come with the package."""
    return tuple(_table()["protocols"])


@functools.cache
def _table() -> Mapping[str, Any]:
    return json.loads(
        importlib.resources.files("clippy_jax.evaluators.protocols").joinpath("protocols.json").read_text("utf-8")
    )


def _record(name: str) -> dict[str, Any]:
    """A row with everything that it is based on."""
    if name in names():
        record = _table()["protocols"][name]
    elif name.endswith(".json"):
        record = _own(pathlib.Path(name))
    else:
        raise InputError(f"protocol {name!r} is not known; known here: {', '.join(names())}, or a JSON file")
    base = _record(record["based_on"]) if "based_on" in record else {}
    of_base, of_own = base.get("data_sets", {}), record.get("data_sets", {})
    data_sets = {column: of_base.get(column, {}) | of_own.get(column, {}) for column in of_base | of_own}
    own = {key: value for key, value in record.items() if key != "based_on"}
    return base | {"published": {}} | own | {"data_sets": data_sets}  # what is published of the base is not of this one


def _own(path: pathlib.Path) -> Mapping[str, Any]:
    """A file's record, with every key and the type of every value checked."""
    with reading(path, wrong="cannot be read as JSON"):
        record = json.loads(path.read_text("utf-8-sig"))
    if not isinstance(record, dict) or not isinstance(record.get("data_sets", {}), dict):
        raise InputError(f"{path} must hold a JSON object of a protocol's values")
    if record.get("based_on", STANDARD) not in names():
        raise InputError(f"{path}: based_on is {record['based_on']!r}; it must be one of {', '.join(names())}")
    _check_values(record, path, {"based_on", "data_sets"})
    for column, values in record.get("data_sets", {}).items():
        if column not in COLUMNS or not isinstance(values, dict):
            raise InputError(f"{path}: data_sets has {column!r}; it maps {', '.join(COLUMNS)} to values")
        _check_values(values, path, set())
    return record


def _check_values(values: Mapping[str, Any], path: pathlib.Path, others: set[str]) -> None:
    fields = {field.name: field for field in dataclasses.fields(Protocol) if field.name != "name"}
    for key, value in values.items():
        if key in others:
            continue
        if key not in fields:
            raise InputError(f"{path}: {key!r} is not known; known here: {', '.join([*sorted(others), *fields])}")
        choices = get_args(fields[key].type)
        if all(isinstance(choice, str) for choice in choices) and choices and value not in choices:
            raise InputError(f"{path}: {key} is {value!r}; it must be one of {', '.join(choices)}")
        if not _has_type(key, value, fields[key]):
            raise InputError(f"{path}: {key} is {value!r}, which is no value for it")


def _has_type(key: str, value: Any, field: dataclasses.Field) -> bool:
    def are_words(values: Any) -> bool:
        return isinstance(values, list) and bool(values) and all(isinstance(word, str) and word for word in values)

    def are_figures(values: Any) -> bool:
        is_row = isinstance(values, list) and len(values) == len(COLUMNS)
        return is_row and all(isinstance(figure, int | float | None) for figure in values)

    if key == "templates":
        known = (ONE_PROMPT, OPENAI, *_table()["templates"])
        return value in known if isinstance(value, str) else are_words(value) and all("{}" in text for text in value)
    if key == "names":
        return isinstance(value, dict) and all(map(are_words, value.values()))
    if key == "published":
        return isinstance(value, dict) and all(map(are_figures, value.values()))
    if isinstance(field.default, bool):
        return isinstance(value, bool)
    if isinstance(field.default, int | float):
        whole = isinstance(field.default, int)
        return (
            isinstance(value, int if whole else int | float)
            and not isinstance(value, bool)
            and value >= (0 if whole else -1)
        )
    return isinstance(value, str)
