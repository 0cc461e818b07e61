import sys

import pytest

import clippy_jax
from clippy_jax.command_line import Parser, announce
from clippy_jax.errors import InputError, exit_with_one_line

DOCUMENTATION = """What it does.

python -m program --first=a \\
    --second=b

python -m program --third

More of what it does.
"""


@pytest.fixture
def terminal(monkeypatch, capsys):
    """As if stderr were a terminal with colours."""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_help_ends_with_the_examples_of_the_documentation():
    text = Parser("program", "What it does.", DOCUMENTATION).format_help()
    assert text.endswith("examples:\n\npython -m program --first=a \\\n    --second=b\n\npython -m program --third\n")
    assert "examples" not in Parser("program", "What it does.").format_help()


def test_versions_and_devices_are_said_on_a_terminal(capsys, terminal):
    announce()
    line = capsys.readouterr().err
    assert line.startswith(f"clippy_jax {clippy_jax.__version__}, jax 0.") and line.endswith(", 8 x cpu\n")
    announce(devices=False)
    assert "cpu" not in capsys.readouterr().err


def test_nothing_is_said_where_the_output_is_piped(capsys):
    announce()
    assert capsys.readouterr() == ("", "")


def error_line(capsys) -> str:
    @exit_with_one_line
    def main():
        raise InputError("no such file")

    with pytest.raises(SystemExit):
        main()
    return capsys.readouterr().err


def test_errors_are_red_on_terminals_alone(capsys, monkeypatch, terminal):
    assert error_line(capsys) == "\x1b[31merror:\x1b[0m no such file\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert error_line(capsys) == "error: no such file\n"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: False)
    assert error_line(capsys) == "error: no such file\n"
