"""One run, one workdir: a second run that would write into it is refused while the first one lives.

On one machine the operating system holds the lock (`flock`) and lets go of it when the process ends, however it ends.
For other machines that share the file system, and for object stores, `WORKDIR/lock` says who writes and is written anew
every few seconds: a lock of another machine that no longer changes was left by a run that died.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from clippy_jax.errors import InputError

BEAT_SECONDS = 10.0  # between two signs of life
BEATS_MISSED = 3  # after which a run on another machine counts as dead
_READS, _SECONDS_BETWEEN_READS = 5, 0.02  # before a file that says nothing is believed


@contextlib.contextmanager
def hold(workdir: epath.PathLike, beat_seconds: float = BEAT_SECONDS) -> Iterator[None]:
    """Holds the lock of a run's folder, which exists. Every process of the run calls it; the first one holds it.

    Raises:
      InputError: another run writes there; in every process.
    """
    with contextlib.ExitStack() as stack:
        refusal = None
        if jax.process_index() == 0:
            try:
                stack.enter_context(_hold(epath.Path(workdir) / "lock", beat_seconds))
            except InputError as error:
                refusal = error
        if multihost_utils.broadcast_one_to_all(np.int32(refusal is not None)):
            raise refusal or InputError(f"--workdir={workdir}: the first process may not write there")
        yield


@contextlib.contextmanager
def _hold(path: epath.Path, beat_seconds: float) -> Iterator[None]:
    with _system_lock(path) as locked:
        holder = _read(path)
        if locked is False:
            raise _refused(path, holder)
        # On this machine the system's lock is the answer; a run elsewhere shows by its signs of life.
        if holder and (holder["machine"] != socket.gethostname() or locked is None):
            time.sleep(beat_seconds * BEATS_MISSED)
            if _read(path) not in (holder, {}):
                raise _refused(path, _read(path))
        me = {"machine": socket.gethostname(), "process": os.getpid(), "run": uuid.uuid4().hex}
        _write(path, me, beat=0)
        if locked is None:
            time.sleep(min(2.0, beat_seconds))  # two that came at the same moment: the last to write stays
            if _read(path).get("run") != me["run"]:
                raise _refused(path, _read(path))
        ended = threading.Event()

        def live():
            beat = 0
            while not ended.wait(beat_seconds):
                beat += 1
                with contextlib.suppress(OSError):  # a full disk, a folder that is gone: the run itself will say so
                    _write(path, me, beat)

        thread = threading.Thread(target=live, name="workdir-lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(OSError):
                path.write_text("")


@contextlib.contextmanager
def _system_lock(path: epath.Path) -> Iterator[bool | None]:
    """Whether the operating system's lock was got; None where the file system has none."""
    if "://" in os.fspath(path):
        yield None
        return
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except BlockingIOError:
            locked = False
        except OSError:  # ENOLCK, ENOTSUP, ...: some network file systems
            locked = None
        yield locked


def _read(path: epath.Path) -> dict:
    """Who writes there, and the number of the last sign of life; nothing where nobody does."""
    for _ in range(_READS):
        try:
            holder = json.loads(path.read_text())
            if {"machine", "process", "run", "beat"} <= holder.keys():
                return holder
        except (OSError, ValueError, AttributeError, RecursionError):
            pass
        time.sleep(_SECONDS_BETWEEN_READS)  # it may be in the middle of being written
    return {}


def _write(path: epath.Path, holder: dict, beat: int) -> None:
    path.write_text(json.dumps(holder | {"beat": beat}))


def _refused(path: epath.Path, holder: dict) -> InputError:
    who = f"process {holder['process']} on {holder['machine']}" if holder else "another process"
    return InputError(f"--workdir={path.parent}: {who} is writing to it; wait for its end, or use another --workdir")
