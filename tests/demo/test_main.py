import importlib.util
import socket

import pytest

from clippy_jax.demo.__main__ import main


def last_line(capsys, *flags: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(flags)
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "the following arguments are required: --checkpoint; see python -m clippy_jax.demo --help"),
        (["--checkpoint=x", "--port=0"], "--port=0 must be from 1 to 65535"),
        (["--checkpoint=x", "--port=many"], "--port: invalid int value: 'many'"),
        (["--checkpoint=x", "--host=nowhere.invalid"], "--host=nowhere.invalid"),
    ],
)
def test_wrong_commands_end_in_one_line(capsys, monkeypatch, flags, message):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert message in last_line(capsys, *flags)


def test_a_port_in_use_is_said_with_another_to_try(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = last_line(capsys, "--checkpoint=x", f"--port={port}")
    assert f"--port={port} cannot be served on" in line and "choose another port, for example --port=" in line


def test_without_gradio_the_line_that_installs_it_is_said(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    line = last_line(capsys, "--checkpoint=x")
    assert line == 'error: the demo needs Gradio, which is not installed: pip install "gradio>=6.31,<7"'


@pytest.mark.parametrize("kind", ["missing", "text", "empty folder"])
def test_a_checkpoint_that_is_none_is_said(capsys, monkeypatch, tmp_path, kind):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    path = tmp_path / "model.pt"
    if kind == "text":
        path.write_text("no checkpoint")
    elif kind == "empty folder":
        path.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert str(path) in last_line(capsys, f"--checkpoint={path}", f"--port={port}")
