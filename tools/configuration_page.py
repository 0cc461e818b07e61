"""Writes docs/configuration.md: every field of a configuration, out of the schema and the two configurations.

python tools/configuration_page.py
"""

import ast
import dataclasses
import inspect
import io
import pathlib
import runpy
import sys
import tokenize
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from clippy_jax import config  # noqa: E402

PAGE = ROOT / "docs" / "configuration.md"
HEAD = """\
# Configuration

Every field that a training run reads, written from `clippy_jax/config.py` by `python tools/configuration_page.py`. A
configuration file (`configs/*.py`) sets all of them, and `--config.FIELD=VALUE` overrides one. An unknown field, a
value of the wrong type and one out of its range end in one line. Why `configs/b16.py` has its values stands there.
"""


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(), "utf-8")
    print(f"written: {PAGE}")


def page() -> str:
    """The page as Markdown: a section a group, a row a field."""
    values = [_values(name) for name in ("b16", "shapes")]
    parts = [HEAD]
    for path, group in groups(config.Config, "config"):
        fields = [field for field in dataclasses.fields(group) if not _is_group(_type(group, field.name))]
        if not fields:
            continue
        about = " ".join((group.__doc__ or "").split())
        rows = ["| field | value | b16 | shapes | meaning |", "|---|---|---|---|---|"]
        meanings = comments(group)
        for field in fields:
            kind = _type(group, field.name)
            given = [_code(of.get(f"{path}.{field.name}")) for of in values]  # where each evaluation has its own, none
            rows.append(f"| `{path}.{field.name}` | {_kind(kind)} | {' | '.join(given)} | {meanings[field.name]} |")
        parts.append(f"## `{path}`\n\n{about}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def groups(group: type, path: str) -> Iterator[tuple[str, type]]:
    """A dataclass of the schema and those below it, with the name that leads to each."""
    yield path, group
    for field in dataclasses.fields(group):
        kind = _type(group, field.name)
        if typing.get_origin(kind) is dict:
            yield from groups(typing.get_args(kind)[1], f"{path}.{field.name}.<task>")
        elif dataclasses.is_dataclass(kind):
            yield from groups(kind, f"{path}.{field.name}")


def comments(group: type) -> dict[str, str]:
    """The comment of each field: on its lines, and on those directly before."""
    source = inspect.getsource(group)
    found = {
        token.start[0]: token
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    meanings = {}
    for node in ast.parse(source).body[0].body:
        if not isinstance(node, ast.AnnAssign):
            continue
        first = node.lineno
        while first - 1 in found and not found[first - 1].line[: found[first - 1].start[1]].strip():
            first -= 1
        texts = [found[line].string.lstrip("# ") for line in range(first, node.end_lineno + 1) if line in found]
        meanings[node.target.id] = " ".join(texts).replace("|", "\\|")
    return meanings


def _type(group: type, name: str) -> Any:
    return typing.get_type_hints(group, include_extras=True)[name]


def _is_group(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) or typing.get_origin(kind) is dict


def _kind(kind: Any) -> str:
    """A type in words: "int, at least 1"."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return f"{_kind(arguments[0])}, {arguments[1]}"
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        kinds = [_kind(argument) for argument in arguments if argument is not Ellipsis]
        return f"any number of: {kinds[0]}" if arguments[-1] is Ellipsis else f"{len(kinds)} of: {kinds[0]}"
    return {str: "text", bool: "True or False"}.get(kind, getattr(kind, "__name__", str(kind)))


def _values(name: str) -> Mapping[str, Any]:
    values = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]().to_dict()
    return config.values_by_name(values)


def _code(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f"`({', '.join(f'{item:.4g}' if isinstance(item, float) else repr(item) for item in value)})`"
    return f"`{value!r}`" if value != "" else '`""`'


if __name__ == "__main__":
    main()
