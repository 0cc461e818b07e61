"""One line in the place of the page that JAX's C++ prints when another process of the run is lost.

JAX ends a process at once then: it writes what happened and its stack to the standard error stream and aborts. So that
stream, as C++ sees it, goes through a small program of its own, this file: it passes everything on, but for the last
words of JAX's service. What Python writes goes the direct way.
"""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Sequence

_END = b"because the JAX distributed service detected fatal errors"
# Lines with which the service begins, before it comes to that point or at it. What follows is held back until it is
# clear whether the process ends.
_BEGIN = re.compile(
    rb"^([EW]\d{4} .*(coordination_service|coordination_service_agent|preemption_sync_manager)\.cc:|.*" + _END + rb")",
    re.MULTILINE,
)
_LOST = re.compile(rb"stopped sending heartbeats\):\s*((?:[/\w:]*\d+\s+)+)")
# The first process, where the service is, cannot be reached or does not answer.
_BY_FIRST = re.compile(
    rb"remote target coordination_service|DEADLINE_EXCEEDED.*\s+RPC: .*CoordinationService/Heartbeat"
)
_SECONDS_HELD = 3.0
_SECONDS_TO_END = 0.2  # in which the service says the rest


def watch_for() -> None:
    """Sends the standard error stream of this process, but for Python's own, through this file as a program."""
    direct = os.dup(2)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    program = subprocess.Popen([sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, stderr=direct)
    os.dup2(program.stdin.fileno(), 2)
    program.stdin.close()
    os.close(direct)


def line_about(said: bytes) -> str:
    """What to tell of the last words of JAX's service."""
    lost = _LOST.search(said)
    numbers = re.findall(r"(\d+)\s", lost[1].decode()) if lost else []
    return line_that_names(numbers or (["0"] if _BY_FIRST.search(said) else []))


def line_that_names(numbers: Sequence[str]) -> str:
    """What to tell of processes that are lost; of none where it is not known which."""
    numbers = sorted(set(numbers), key=int)
    which = f"process{'es' * (len(numbers) > 1)} {', '.join(numbers)}" if numbers else "another process"
    return (
        f"error: {which} of this run ended or gives no sign of life; see its own output; the same command, with any "
        "number of processes, goes on from the newest checkpoint"
    )


def _pass_on() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):  # which are for the whole group
        signal.signal(number, signal.SIG_IGN)
    held, ending = b"", False
    while True:
        wait = (_SECONDS_TO_END if ending else _SECONDS_HELD) if held else None
        if not select.select([0], [], [], wait)[0]:
            if ending:
                break
            os.write(2, held)
            held = b""
            continue
        if not (content := os.read(0, 1 << 16)):
            break
        held += content
        begin = _BEGIN.search(held)
        passed = begin.start() if begin else len(held)
        os.write(2, held[:passed])
        held = held[passed:]
        ending = _END in held
        if ending and (_LOST.search(held) or _BY_FIRST.search(held)):  # at once: this may end with its parent
            break
    os.write(2, f"{line_about(held)}\n".encode() if ending else held)
    while ending and os.read(0, 1 << 16):
        pass


if __name__ == "__main__":
    _pass_on()
