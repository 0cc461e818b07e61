"""Checkpoints that cannot be written: the run's last line says why, Orbax's threads say nothing, nothing is left."""

import contextlib
import errno
import os
import random
import resource
import shutil
import threading
import time
import types

import pytest
from etils import epath

from clippy_jax.errors import InputError
from clippy_jax.run import storage_faults
from clippy_jax.run.checkpointing import Checkpointer, restore_arrays
from tests.run.test_checkpointing import NEVER, make_state, steps_in


def test_a_checkpoint_that_does_not_fit_is_not_begun(tmp_path, monkeypatch):
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        checkpointer.save(1, make_state(1))
        monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=2000))
        with pytest.raises(
            InputError, match=r"checkpoint of step 2 cannot be written: 0.0\d MB are needed and 0.00 MB"
        ):
            checkpointer.save(2, make_state(2))
    assert steps_in(tmp_path) == [1]


@pytest.mark.parametrize("saves_on", [True, False])
def test_what_fails_while_it_is_written_is_one_line_and_leaves_nothing(tmp_path, capfd, saves_on):
    """The next save tells it, or the end."""
    with pytest.raises(InputError, match="a checkpoint cannot be written: File too large; see to it and") as error:
        with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
            checkpointer.save(1, make_state(1))
            with contextlib.ExitStack() as stack:
                stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE))
                checkpointer._manager.wait_until_finished()
                # The nearest to a full disk that needs no rights: no file may grow beyond 1,000 bytes.
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
                checkpointer.save(2, make_state(2))
                if saves_on:
                    checkpointer.save(3, make_state(3))
                while checkpointer._manager._finalize_thread.get_not_none().is_alive():
                    time.sleep(0.01)
    assert "\n" not in str(error.value)
    assert steps_in(tmp_path) == [1]
    assert capfd.readouterr().err == ""


def test_what_writes_under_way_make_anew_is_removed_too(tmp_path):
    unfinished = tmp_path / "5.orbax-checkpoint-tmp" / "state.orbax-checkpoint-tmp"
    unfinished.mkdir(parents=True)
    late = threading.Timer(0.2, unfinished.mkdir, kwargs={"parents": True, "exist_ok": True})
    with pytest.raises(InputError, match="step 5 cannot be written: No space left on device"):
        with storage_faults.telling(epath.Path(tmp_path), 5):
            late.start()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    late.join()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_has_gone_is_one_line(tmp_path):
    with pytest.raises(InputError, match="checkpoint of step 2 cannot be written: No such file or directory"):
        with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
            checkpointer.save(1, make_state(1))
            checkpointer._manager.wait_until_finished()
            shutil.rmtree(tmp_path / "checkpoints")
            checkpointer.save(2, make_state(2))


def test_a_clock_that_jumps_while_checkpoints_are_written_changes_nothing(tmp_path, monkeypatch):
    now, jump = time.time, random.Random(0)
    monkeypatch.setattr(time, "time", lambda: now() + jump.uniform(-3e8, 3e8))
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        for step in (1, 2, 3):
            checkpointer.save(step, make_state(step))
    assert steps_in(tmp_path)[-1] == 3


def test_a_checkpoint_that_has_gone_by_the_end_is_no_success(tmp_path):
    with pytest.raises(InputError, match="a checkpoint cannot be written: No such file or directory"):
        with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
            checkpointer.save(1, make_state(1))
            checkpointer._manager.wait_until_finished()
            shutil.rmtree(tmp_path / "checkpoints" / "1")


def test_a_bug_stays_a_bug(tmp_path, monkeypatch):
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:

        def broken(*args, **kwargs):
            raise ValueError("ours")

        monkeypatch.setattr(checkpointer._manager, "save", broken)
        with pytest.raises(ValueError, match="ours"):
            checkpointer.save(1, make_state(1))


def test_a_damaged_checkpoint_is_read_without_a_word_of_the_library(tmp_path, capfd):
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        checkpointer.save(1, make_state(1))
        checkpointer.save(2, make_state(2))
    for path in (tmp_path / "checkpoints" / "2" / "state").rglob("d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    capfd.readouterr()
    restore_arrays(tmp_path, ("params",))
    output, error = capfd.readouterr()
    assert "2 is damaged (" in output and error == ""
