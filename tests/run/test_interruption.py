import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from clippy_jax.processes import log_line
from clippy_jax.run.interruption import SIGNALS, Interrupted, Interruption

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_the_handlers_from_before_come_back(number, capsys):
    before = [signal.getsignal(each) for each in SIGNALS]
    with Interruption() as interruption:
        assert not interruption.requested(1)
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 5
        while not interruption.requested(2) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert interruption.requested(2) and interruption.name == number.name
    assert [signal.getsignal(each) for each in SIGNALS] == before
    assert f"{number.name}: stopping after this step" in capsys.readouterr().out


def test_ctrl_c_that_also_ended_the_reader_of_the_output_is_noted_and_ends_no_run(monkeypatch):
    read, write = os.pipe()
    os.close(read)  # as that of `| tee log.txt` then
    with os.fdopen(write, "w") as nobody_reads, Interruption() as interruption:
        monkeypatch.setattr(sys, "stdout", nobody_reads)
        os.kill(os.getpid(), signal.SIGINT)
        while not interruption.requested(1):
            time.sleep(0.01)
        log_line("step 1")  # before the state is saved
        time.sleep(0.1)
        assert "signals" in [thread.name for thread in threading.enumerate()]  # for the second Ctrl+C


def test_what_need_not_be_finished_is_left_at_once():
    with Interruption() as interruption:
        with pytest.raises(Interrupted), interruption.leaving():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            raise AssertionError("was finished")
        while not interruption.name:
            time.sleep(0.01)
        with pytest.raises(Interrupted), interruption.leaving():
            raise AssertionError("was begun")


def test_a_second_signal_ends_at_once_also_while_the_main_thread_computes():
    script = """
import os, signal
import numpy as np
from clippy_jax.processes import log_line
from clippy_jax.run.interruption import Interruption
with Interruption():
    print("ready", flush=True)
    large = np.ones((6000, 6000))
    large @ large @ large @ large @ large @ large @ large @ large  # seconds, in which no Python handler runs
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert "SIGTERM: stopping" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 128 + signal.SIGINT
    assert "SIGINT once more: ending at once, without saving" in process.stdout.read()
