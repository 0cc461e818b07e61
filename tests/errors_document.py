"""Writes down every wrong input that tests give and what comes of it: `pytest --write-errors=docs/errors.md`.

What is written is what was printed, or raised to be printed by a program (`errors.exit_with_one_line`), while the tests
ran. Sections of test files that did not run stay as they are.
"""

import builtins
import os
import pathlib
import re
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from clippy_jax import errors

ROOT = pathlib.Path(__file__).parents[1]
_TITLE = """# Errors

Every wrong input that the tests give, and the line that the user sees (after `error: `). A program ends with the exit
status; where there is none, the line is that of an `InputError` which a function of the package raises, and any program
that calls it ends with 1. A bug of ours keeps its traceback and says that it is one.

Written by `make errors` from what the programs and functions said in the tests; `…` stands for a test's folder.
"""
_SECTION = "## "
_EXPECTED = ("message", "says", "match", "expected", "refused", "told")  # parameters of tests that are no input
_LONGEST = 220  # characters of an input
_NO_STATUS = "–"
_CHANGING = (
    (re.compile(r"/tmp/pytest-of-[^/]+/pytest-\d+(/popen-gw\d+)?(/[\w.-]+?\d+)?(?=[/\s:;,')\"\]]|$)"), "…"),
    (re.compile(re.escape(str(ROOT)) + "/?"), ""),
    (re.compile(r"/tmp/[\w.-]+"), "…"),
    (re.compile(re.escape(os.path.expanduser("~")) + r"(?=/)"), "~"),
    (re.compile(r"(localhost|127\.0\.0\.1):\d+"), r"\1:PORT"),
    (re.compile(r"(--port[ =])\d{5}\b"), r"\1PORT"),
    (re.compile(r"process \d+ on " + re.escape(socket.gethostname())), "process N on HOST"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "DIGEST"),
    (re.compile(r" at 0x[0-9a-f]+"), ""),
)

Rows = dict[str, dict[tuple[str, str, str], None]]  # by section: input, line, status; as a set that keeps its order


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-errors", metavar="FILE", help="writes the errors that tests provoke to a Markdown file")


def pytest_configure(config: pytest.Config) -> None:
    if _wanted(config):
        config.pluginmanager.register(Recorder(config), "errors-recorder")


def _wanted(config: pytest.Config) -> str | None:
    return config.getoption("--write-errors", None)


class Recorder:
    """Notes what programs print and what tests expect to be raised."""

    def __init__(self, config: pytest.Config):
        self._config = config
        self._rows: Rows = {}
        self._item: pytest.Item | None = None
        errors.print = self._print  # the module's own name, before Python's
        self._raises, pytest.raises = pytest.raises, self._recorded_raises

    def _print(self, *texts: object, **options: Any) -> None:
        builtins.print(*texts, **options)
        if str(texts[0]).startswith("error: "):
            self._note(str(texts[0]).removeprefix("error: "), "1")

    def _recorded_raises(self, *arguments: Any, **options: Any) -> Any:
        context = self._raises(*arguments, **options)
        return _Recorded(context, self._note) if hasattr(context, "__exit__") else context

    def _note(self, line: str, status: str) -> None:
        if self._item is not None:
            rows = self._rows.setdefault(_section(self._item), {})
            rows[_input(self._item), stable(line), status] = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item):
        self._item = item
        self._rows.setdefault(_section(item), {})
        try:
            return (yield)
        finally:
            self._item = None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(self._config, "workeroutput"):  # one of pytest-xdist's processes: the first one writes
            self._config.workeroutput["errors"] = [[name, [*rows]] for name, rows in self._rows.items()]
        else:
            path = pathlib.Path(_wanted(self._config))
            before = path.read_text("utf-8") if path.exists() else ""
            path.write_text(document(merged(parsed(before), self._rows)), "utf-8")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for name, rows in getattr(node, "workeroutput", {}).get("errors", []):
            self._rows.setdefault(name, {}).update(dict.fromkeys(tuple(row) for row in rows))


class _Recorded:
    """A `pytest.raises` that tells which `InputError` came."""

    def __init__(self, context: Any, note: Any):
        self._context, self._note = context, note

    def __enter__(self) -> Any:
        self._info = self._context.__enter__()
        return self._info

    def __exit__(self, *exception: Any) -> bool:
        passed = self._context.__exit__(*exception)
        if passed and isinstance(self._info.value, errors.InputError):
            self._note(str(self._info.value), _NO_STATUS)
        return passed


def stable(line: str) -> str:
    """A line without what is another on each machine and in each run."""
    for changing, instead in _CHANGING:
        line = changing.sub(instead, line)
    return line


def _section(item: pytest.Item) -> str:
    return pathlib.Path(item.nodeid.partition("::")[0]).as_posix()


def _input(item: pytest.Item) -> str:
    """What is wrong: the test's name in words, and the parameters of this case."""
    words = item.originalname.removeprefix("test_").replace("_", " ")
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    case = [_shown(value) for name, value in parameters.items() if name not in _EXPECTED]
    return stable(": ".join([words, *filter(None, [", ".join(filter(None, case))])]))[:_LONGEST]


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return " ".join(value)
    if isinstance(value, str | int | float | dict | bytes | list | tuple | None.__class__):
        return value if isinstance(value, str) else repr(value)
    return getattr(value, "__name__", "").replace("<lambda>", "")


def document(rows: Mapping[str, Mapping[tuple[str, str, str], None]]) -> str:
    """The Markdown of all sections that have something, sorted."""
    lines = [_TITLE]
    for section in sorted(rows):
        if rows[section]:
            lines += [f"{_SECTION}{section}\n", "| wrong input | what the user sees | exit status |", "|---|---|---|"]
            lines += sorted("| " + " | ".join(map(_cell, row)) + " |" for row in rows[section]) + [""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    text = "".join(each if each.isprintable() else repr(each)[1:-1] for each in re.sub(r"\s+", " ", text))
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").strip() or " "


def parsed(text: str) -> dict[str, str]:
    """The sections of a document, as they stand there."""
    parts = text.split(f"\n{_SECTION}")
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts[1:]}


def merged(before: Mapping[str, str], rows: Rows) -> Rows:
    """The rows that were noted, and those of sections of which no test ran."""
    others = {name: text for name, text in before.items() if name not in rows and (ROOT / name).exists()}
    return rows | {name: rows_of(text) for name, text in others.items()}


def rows_of(text: str) -> dict[tuple[str, str, str], None]:
    """The rows of a section's table."""
    lines = [line[2:-2] for line in text.splitlines() if line.startswith("| ")][1:]
    cells = ([_text(cell) for cell in line.split(" | ")] for line in lines)
    return dict.fromkeys(tuple(each) for each in cells if len(each) == 3)


def _text(cell: str) -> str:
    return cell.strip().replace("&lt;", "<").replace("\\|", "|").replace("\\\\", "\\")
