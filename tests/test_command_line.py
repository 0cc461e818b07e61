import pathlib
import sys

import pytest

import clippy_jax
from clippy_jax.command_line import Parser, announce
from clippy_jax.errors import InputError, exit_with_one_line

DOCUMENTATION = """What it does.

python -m program --first=a \\
    --second=b
python -m program part --third

python -m another --fourth

More of what it does.
"""


@pytest.fixture
def terminal(monkeypatch, capsys):
    """As if stderr were a terminal with colours."""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_help_ends_with_the_examples_of_the_documentation():
    text = Parser("python -m program", "What it does.", DOCUMENTATION).format_help()
    assert text.endswith(
        "examples:\n\npython -m program --first=a \\\n    --second=b\npython -m program part --third\n"
    )
    part = Parser("python -m program part", "What a part does.", DOCUMENTATION).format_help()
    assert part.endswith("examples:\n\npython -m program part --third\n")
    assert "examples" not in Parser("program", "What it does.").format_help()


def test_what_is_rarely_needed_is_in_the_long_help_alone(capsys):
    parser = Parser("program", "What it does.")
    parser.add_argument("--often", required=True, help="many times")
    parser.add_rare_flags("rarely needed")("--seldom", type=int, help="hardly ever")
    short = parser.format_help()
    assert short.startswith("usage: program --often OFTEN [flags]\n") and "--help_all" in short
    assert "seldom" not in short and "rarely needed:" not in short
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--help_all"])
    assert end.value.code == 0
    assert capsys.readouterr().out.count("hardly ever") == 1
    assert parser.parse_args(["--often=1", "--seldom=2"]).seldom == 2


def test_values_are_paths_of_this_machine_whatever_their_type(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    parser = Parser("program", "What it does.")
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--image", action="append")
    args = parser.parse_args(["--data=~/data", "--image=file:///a.jpg", "--image", "~/b=~.jpg"])
    assert args.data == pathlib.Path("/home/me/data") and args.image == ["/a.jpg", "/home/me/b=~.jpg"]


@pytest.mark.parametrize("arguments", [["--data="], ["--data", ""]])
def test_an_empty_path_is_not_the_current_folder(arguments):
    parser = Parser("program", "What it does.")
    parser.add_argument("--data", type=pathlib.Path)
    with pytest.raises(InputError, match="^--data is empty"):
        parser.parse_args(arguments)


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
