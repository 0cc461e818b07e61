"""What JAX's service prints when a process is lost becomes one line; everything else passes."""

import subprocess
import sys
import time

import pytest

from clippy_jax.processes import lost_process

FATAL = (
    b"F1125 22:19:00.922300     860 client.h:80] Terminating process because the JAX distributed service detected "
    b"fatal errors. This most likely indicates that another task died; see the other task logs for more details. "
)
STACK = b"*** Check failure stack trace: ***\n    @     0x7fed68640634  absl::lts_20260107::log_internal()\n" * 20
HEARTBEAT = b"UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n%sThe tasks have crashed.\n"
SERVICE = b"E1125 22:19:00.918294     849 coordination_service.cc:1549] [150] Use error polling: " + HEARTBEAT
AGENT = b"E1125 22:19:00.922202     860 coordination_service_agent.cc:289] Polled an error from coordination service.\n"
SILENT = b"absl::Status: DEADLINE_EXCEEDED: Deadline Exceeded\n\nRPC: /xla.coordination.CoordinationService/Heartbeat\n"
FIRST = b"Additional GRPC error information from remote target coordination_service while calling /PollForError:\n"


def passed_on(*written: bytes) -> bytes:
    """What the program makes of an error stream that is written in so many pieces."""
    command = [sys.executable, "-I", "-S", lost_process.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        for piece in written:
            program.stdin.write(piece)
            program.stdin.flush()
            time.sleep(0.05)
        return program.communicate(timeout=20)[1]


@pytest.mark.parametrize(
    "written, lost",
    [
        ((SERVICE % b"1\n" + AGENT, FATAL + STACK), "process 1"),
        (
            (SERVICE % b"/job:jax_worker/replica:0/task:3\n/job:jax_worker/replica:0/task:12\n", FATAL),
            "processes 3, 12",
        ),
        ((AGENT, FATAL + b"\nRPC: Poll [" + HEARTBEAT % b"2\n" + b"]\n" + STACK), "process 2"),
        ((AGENT, FATAL + FIRST + STACK), "process 0"),
        ((FATAL + SILENT + STACK,), "process 0"),
        ((FATAL, STACK), "another process"),
    ],
)
def test_the_last_words_become_one_line(written, lost):
    before = b"W1125 22:18:00.1 7 gemm.cc:1] a warning of XLA\n"
    error = passed_on(before, *written).decode()
    assert error.splitlines()[0] == before.decode().strip() and error.count("\n") == 2
    assert error.splitlines()[1].startswith(f"error: {lost} of this run ended or gives no sign of life; ")


def test_what_does_not_end_the_process_passes():
    pieces = b"one line\nand half", b" another\n", b"Traceback:\n" + AGENT, b"it went on\n"
    assert passed_on(*pieces) == b"".join(pieces)


def test_python_keeps_its_stream_and_the_rest_goes_through_the_program():
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1]);"
        "from clippy_jax.processes.lost_process import watch_for; watch_for();"
        "os.write(2, b'C++ writes\\n'); print('Python writes', file=sys.stderr);"
        f"os.write(2, {FATAL!r}); os.abort()"
    )
    root = lost_process.__file__.rpartition("/clippy_jax/")[0]
    done = subprocess.run([sys.executable, "-c", script, root], capture_output=True, text=True, timeout=60)
    lines = sorted(done.stderr.splitlines())
    assert done.returncode == -6 and lines[:2] == ["C++ writes", "Python writes"]
    assert len(lines) == 3 and lines[2].startswith("error: another process of this run ended")
