import io
import sys

import pytest

from clippy_jax.errors import InputError, exit_with_one_line, reading


def test_wrong_input_ends_in_one_line_and_status_1(capsys):
    @exit_with_one_line
    def main():
        raise InputError("photo.jpg is no image; name another file")

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert capsys.readouterr() == ("", "error: photo.jpg is no image; name another file\n")


def test_ctrl_c_ends_in_one_line(capsys):
    @exit_with_one_line
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130 and capsys.readouterr() == ("", "stopped by Ctrl+C\n")


def test_a_bug_keeps_its_traceback():
    @exit_with_one_line
    def main():
        raise KeyError("ours")

    with pytest.raises(KeyError):
        main()


def test_what_is_returned_comes_through():
    assert exit_with_one_line(lambda left, right: left + right)(1, right=2) == 3


def test_a_name_that_is_no_text_is_printed_with_escapes(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "utf-8", write_through=True))
    exit_with_one_line(print)("written: caf\udce9.png, é")
    assert written.getvalue() == b"written: caf\\udce9.png, \xc3\xa9\n"


def test_a_message_is_one_line_whatever_a_file_holds():
    assert str(InputError("table.csv has the columns a\nb,\r\nc")) == "table.csv has the columns a b, c"


def test_a_library_in_rust_that_panics_is_a_reader_that_refuses():
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(InputError, match="tokenizer.json cannot be read"), reading("tokenizer.json"):
        raise panic("called unwrap on None")
    with pytest.raises(KeyboardInterrupt), reading("tokenizer.json"):
        raise KeyboardInterrupt
