"""A folder that cannot be written, from the start or all of a sudden: one line, whoever meets it first."""

import contextlib
import ctypes
import os
import resource
import shutil

import pytest

from clippy_jax.errors import InputError
from clippy_jax.run.writable_workdir import check_workdir, ending_in_one_line, make_workdir


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "run"
    make_workdir(folder)
    (folder / "config.json").write_text("{}")
    check_workdir(folder)
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    return folder


def delete(workdir):
    shutil.rmtree(workdir)


def make_anew(workdir):
    """As who writes a checkpoint into a folder that was deleted."""
    shutil.rmtree(workdir)
    (workdir / "checkpoints").mkdir(parents=True)


def put_a_file_there(workdir):
    shutil.rmtree(workdir)
    workdir.write_text("")


def make_read_only(workdir):
    workdir.chmod(0o555)


FAULTS = {
    delete: "it was deleted or replaced while the run went on",
    make_anew: "it was deleted or replaced while the run went on",
    put_a_file_there: "it was deleted or replaced while the run went on",
    make_read_only: "Permission denied",
}


@contextlib.contextmanager
def without_root_rights():
    """Takes from this thread what lets root write into read-only folders (CAP_DAC_OVERRIDE), and gives it back."""
    if os.geteuid():
        yield
        return
    system, head, rights = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()
    assert system.capget(head, rights) == 0
    effective = rights[0]
    rights[0] &= ~2
    assert system.capset(head, rights) == 0
    try:
        yield
    finally:
        rights[0] = effective
        assert system.capset(head, rights) == 0


def test_one_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"--workdir={tmp_path}/file/run cannot be written: Not a directory"):
        make_workdir(tmp_path / "file" / "run")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_one_that_goes_is_noticed_and_told_at_the_end(workdir, fault):
    with pytest.raises(InputError, match=f"--workdir={workdir} cannot be written: {FAULTS[fault]}; see to it and"):
        with without_root_rights(), ending_in_one_line(workdir):  # of a block in which nobody else notices
            fault(workdir)
            with pytest.raises(InputError, match=FAULTS[fault]):
                check_workdir(workdir)


def test_one_that_has_no_room_is_noticed_and_nothing_stays(workdir):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.ExitStack() as stack, pytest.raises(InputError, match="cannot be written: File too large; see"):
        stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # a full disk's stand-in: names, but no bytes
        check_workdir(workdir)
    assert [path.name for path in workdir.iterdir()] == ["config.json"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_whatever_a_library_raises_is_told_as_the_fault_of_the_folder(workdir, fault):
    with pytest.raises(InputError, match=f"--workdir={workdir} cannot be written: {FAULTS[fault]}") as error:
        with without_root_rights(), ending_in_one_line(workdir):
            fault(workdir)
            raise ValueError("file 3 of 7 is in an odd state")
    assert isinstance(error.value.__cause__, ValueError)


def test_a_bug_in_a_sound_folder_stays_a_bug(workdir):
    with pytest.raises(ValueError, match="ours"), ending_in_one_line(workdir):
        raise ValueError("ours")
    with pytest.raises(InputError, match="^a field$"), ending_in_one_line(workdir):
        raise InputError("a field")
