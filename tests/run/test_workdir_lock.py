import json
import os
import pathlib
import signal
import threading
import time

import pytest

from clippy_jax.errors import InputError
from clippy_jax.run import workdir_lock
from tests.programs import Program

HOLDER = """
import sys, time
from clippy_jax.run import workdir_lock
with workdir_lock.hold(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    process = Program(["-c", HOLDER, tmp_path])
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_and_told_who_writes(tmp_path, holder):
    with pytest.raises(InputError, match=f"process {holder.pid} on .* is writing to it; wait for its end"):
        with workdir_lock.hold(tmp_path):
            pass


def test_a_run_that_was_killed_leaves_no_lock_behind(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait(60)
    start = time.monotonic()
    with workdir_lock.hold(tmp_path):
        assert time.monotonic() - start < 1


def test_the_lock_can_be_had_again_after_its_end(tmp_path):
    for _ in range(2):
        with workdir_lock.hold(tmp_path, beat_seconds=0.01):
            time.sleep(0.05)
    assert (tmp_path / "lock").read_text() == ""


def another_machine(path: pathlib.Path, beat: int) -> None:
    path.write_text(json.dumps({"machine": "elsewhere", "process": 7, "run": "r", "beat": beat}))


def test_a_living_run_on_another_machine_is_seen_by_its_signs_of_life(tmp_path):
    another_machine(tmp_path / "lock", 0)
    threading.Timer(0.1, another_machine, (tmp_path / "lock", 1)).start()
    with pytest.raises(InputError, match="process 7 on elsewhere is writing to it"):
        with workdir_lock.hold(tmp_path, beat_seconds=0.1):
            pass


def test_a_dead_run_on_another_machine_is_waited_for_and_then_passed_over(tmp_path):
    another_machine(tmp_path / "lock", 3)
    start = time.monotonic()
    with workdir_lock.hold(tmp_path, beat_seconds=0.1):
        assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"machine": 1}', "[" * 100_000])
def test_a_damaged_lock_file_holds_nobody_up(tmp_path, content):
    (tmp_path / "lock").write_text(content)
    with workdir_lock.hold(tmp_path):
        pass


def test_a_lock_in_the_middle_of_being_written_is_read_again(tmp_path):
    with workdir_lock.hold(tmp_path):
        written = (tmp_path / "lock").read_text()
        (tmp_path / "lock").write_text("")
        threading.Timer(0.03, (tmp_path / "lock").write_text, (written,)).start()
        with pytest.raises(InputError, match=f"process {os.getpid()} on"):
            with workdir_lock.hold(tmp_path):
                pass


def test_without_the_systems_lock_the_signs_of_life_decide(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(workdir_lock.fcntl, "flock", unsupported)
    with workdir_lock.hold(tmp_path, beat_seconds=0.05):
        with pytest.raises(InputError, match=f"process {os.getpid()} on"):
            with workdir_lock.hold(tmp_path, beat_seconds=0.05):
                pass
    with workdir_lock.hold(tmp_path, beat_seconds=0.05):
        pass
