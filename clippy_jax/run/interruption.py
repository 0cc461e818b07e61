"""The signals by which a run is taken away: it finishes its step, saves, and exits in order.

Slurm (`--signal=USR1@120`), Kubernetes, spot machines and a person at the keyboard all say it by a signal: SIGTERM,
SIGUSR1 or SIGINT. The first one asks; a second one ends the program at once.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from clippy_jax.processes import log_line, say

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Interrupted(BaseException):
    """Leaves work that need not be finished (an evaluation, a look at the data) once a signal has asked for the end.

    Not an `Exception`, so that nobody who makes light of a failed evaluation keeps it from rising.
    """


class Interruption:
    """Watches for the signals while it is entered; outside the main thread it watches nothing.

    A thread of its own reads them, since Python's handlers wait while the main thread compiles or computes. In several
    processes JAX's preemption service makes all of them stop after the same step, whichever of them was asked.
    """

    def __init__(self):
        self.name: str | None = None  # of the signal that asked for the end
        self._leaving = False  # what the main thread does now may be left at any moment
        self._several = jax.process_count() > 1

    def requested(self, step: int) -> bool:
        """Whether to save and stop after `step` steps; every process of the run asks after every step."""
        if not self._several:
            return self.name is not None
        reached = multihost_utils.reached_preemption_sync_point(step)
        if reached and self.name is None:
            log_line("SIGTERM: stopping after this step, as a process of this run is asked to")
        return reached

    @contextlib.contextmanager
    def leaving(self) -> Iterator[None]:
        """Surrounds work that a signal ends at once, by `Interrupted`; with several processes it is finished, since
        the others may wait for this one in the middle of it."""
        self._leaving = not self._several
        try:
            if self._leaving and self.name:
                raise Interrupted
            yield
        finally:
            self._leaving = False

    def __enter__(self) -> "Interruption":
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            # With several processes SIGTERM stays with JAX's preemption service, which has its own handler.
            signals = [each for each in SIGNALS if not (self._several and each == signal.SIGTERM)]
            self._before = {each: signal.signal(each, self._rise) for each in signals}
            self._before_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._watch, name="signals", daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        if self._before:
            for each, handler in self._before.items():
                signal.signal(each, handler)
            signal.set_wakeup_fd(self._before_fd)
            self._writer.close()  # which ends the thread

    def _watch(self) -> None:
        """Reads each signal's number as soon as it arrives, whatever the main thread is doing."""
        with self._reader:
            while number := self._reader.recv(1):
                if number[0] not in self._before:
                    continue
                name = signal.Signals(number[0]).name
                if self.name:
                    say(f"{name} once more: ending at once, without saving")
                    os._exit(128 + number[0])
                self.name = name
                say(f"{name}: stopping after this step; a second signal ends at once")
                if self._several:
                    os.kill(os.getpid(), signal.SIGTERM)

    def _rise(self, number: int, frame) -> None:
        """In the main thread, when it gets round to it."""
        if self._leaving:
            raise Interrupted
