import pytest

from clippy_jax.errors import InputError, exit_with_one_line


def test_wrong_input_ends_in_one_line_and_status_1(capsys):
    @exit_with_one_line
    def main():
        raise InputError("photo.jpg is no image; name another file")

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert capsys.readouterr() == ("", "error: photo.jpg is no image; name another file\n")


def test_a_bug_keeps_its_traceback():
    @exit_with_one_line
    def main():
        raise KeyError("ours")

    with pytest.raises(KeyError):
        main()


def test_what_is_returned_comes_through():
    assert exit_with_one_line(lambda left, right: left + right)(1, right=2) == 3
