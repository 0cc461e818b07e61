import contextlib
import errno
import os
import pathlib

import pytest

from clippy_jax.errors import InputError
from clippy_jax.whole_files import complete_or_nothing


def write_file(path):
    pathlib.Path(path).write_text("new")


def write_folder(path):
    os.mkdir(path)
    (pathlib.Path(path) / "file").write_text("new")


def fill_disk(path):
    write_file(path)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def content(path):
    return path.read_text() if path.is_file() else (path / "file").read_text()


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_output_appears_at_the_end(tmp_path, write):
    target = tmp_path / "new" / "output"
    with complete_or_nothing(str(target), force=False) as temporary:
        write(temporary)
        assert not target.exists()
    assert content(target) == "new"
    assert os.listdir(target.parent) == ["output"]


@pytest.mark.parametrize("before", [write_file, write_folder])
@pytest.mark.parametrize("write", [write_file, write_folder])
def test_what_is_there_is_replaced_by_force_only(tmp_path, before, write):
    target = tmp_path / "output"
    before(target)
    (target if target.is_file() else target / "file").write_text("old")
    with pytest.raises(InputError, match="exists already.*--force"), complete_or_nothing(str(target), False):
        raise AssertionError
    assert content(target) == "old"
    may = not (before is write_folder and write is write_file)
    with contextlib.nullcontext() if may else pytest.raises(InputError, match="output is a folder, and is left as it"):
        with complete_or_nothing(str(target), force=True) as temporary:
            write(temporary)
    assert content(target) == ("new" if may else "old")
    assert os.listdir(tmp_path) == ["output"]


@pytest.mark.parametrize("there_before", [False, True])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, there_before):
    target = tmp_path / "output"
    if there_before:
        target.write_text("old")
    with pytest.raises(InputError, match="No space left on device; nothing was left there"):
        with complete_or_nothing(str(target), force=True) as temporary:
            fill_disk(temporary)
    assert os.listdir(tmp_path) == (["output"] if there_before else [])
    assert not there_before or target.read_text() == "old"


def test_an_interrupted_program_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), complete_or_nothing(str(tmp_path / "output"), False) as temporary:
        write_folder(temporary)
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/output cannot be written"):
        with complete_or_nothing(str(tmp_path / "file" / "output"), False) as temporary:
            write_file(temporary)
