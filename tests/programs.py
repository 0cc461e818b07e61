"""Runs programs as users do: each in a process of its own, which `tests/prefork.py` starts in no time."""

import atexit
import concurrent.futures
import fcntl
import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

ROOT = pathlib.Path(__file__).parents[1]
WHOLE_END = {"CLIPPY_JAX_TESTS_SHORT_END": ""}  # the environment of a program whose end is what is tested


class Program:
    """`python ARGUMENTS` in a process of its own, with those members of `subprocess.Popen` that the tests use.

    Args:
      arguments: what follows `python`: `-m MODULE ...`, `-c CODE ...` or `FILE ...`.
      environment: beside this process's own.
      folder: in which it starts.
    """

    def __init__(
        self,
        arguments: Sequence[str | os.PathLike],
        environment: Mapping[str, str] | None = None,
        folder: str | os.PathLike = ROOT,
    ) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {})
        (own_out, its_out), (own_err, its_err) = os.pipe(), os.pipe()
        with open(os.devnull) as nothing:
            streams = (nothing.fileno(), its_out, its_err)
            self._connection = _ask(_server(), sys.executable, arguments, environment, folder, streams)
        os.close(its_out)
        os.close(its_err)
        self.stdout, self.stderr = (open(each, errors="replace") for each in (own_out, own_err))
        self.pid, self.returncode = _answer(self._connection), None

    def wait(self, timeout: float) -> int:
        """Its exit status, once it has ended, or minus the signal that ended it."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            self.returncode = _answer(self._connection)
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """What it writes to stdout and to stderr until it ends."""
        end = time.monotonic() + timeout
        with concurrent.futures.ThreadPoolExecutor(2) as threads, self.stdout, self.stderr:
            parts = [threads.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                output, error = (part.result(end - time.monotonic()) for part in parts)
                self.wait(max(1.0, end - time.monotonic()))
            finally:
                self.kill()  # where it has not ended, so that the streams do
        return output, error

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(arguments: Sequence[str | os.PathLike], **settings) -> subprocess.CompletedProcess:
    """Runs a `Program` to its end."""
    program = Program(arguments, **settings)
    output, error = program.communicate()
    return subprocess.CompletedProcess(arguments, program.returncode, output, error)


@functools.cache
def python() -> str:
    """An executable that does what a Python interpreter does and starts as fast as `Program`.

    It is `sys.executable` of what it runs, whose children therefore start as fast. What it runs has another process id;
    it passes the signals on that a launcher sends, SIGKILL among them.
    """
    server = _server()
    path = pathlib.Path(server).with_name(f"python{os.getpid()}")
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"from tests.programs import run_here\nsys.exit(run_here({server!r}, sys.argv))\n"
    )
    path.chmod(0o700)
    return str(path)


def run_here(server: str, command: Sequence[str]) -> int:
    """Runs a command of `python` with the streams, the environment and the folder of this process; its exit status."""
    executable, *arguments = command
    with _ask(server, executable, arguments, os.environ, os.getcwd(), (0, 1, 2)) as connection:
        number = _answer(connection)
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(each, lambda received, _: os.kill(number, received))
        status = _answer(connection)
    if status < 0:  # it was ended by a signal
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _ask(
    server: str,
    executable: str,
    arguments: Sequence[str | os.PathLike],
    environment: Mapping[str, str],
    folder: str | os.PathLike,
    streams: Sequence[int],
) -> socket.socket:
    request = {
        "executable": executable,
        "arguments": [str(argument) for argument in arguments],
        "environment": dict(environment),
        "folder": str(folder),
    }
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(server)
    socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], streams)
    return connection


def _answer(connection: socket.socket) -> int:
    """The server's next answer: the process id, then the exit status."""
    answer = b""
    while not answer.endswith(b"\n"):
        answer += connection.recv(1)
    return int(answer)


@functools.cache
def _server() -> str:
    """The socket of the server, which the first process of the tests starts that needs it; all share it.

    It ends with the first process of all. A process that is no test's has a server of its own.
    """
    folder = os.environ.get("CLIPPY_JAX_TESTS_FOLDER")
    owner = os.environ.get("CLIPPY_JAX_TESTS_PROCESS", str(os.getpid()))
    if folder is None:
        folder = tempfile.mkdtemp(prefix="clippy_jax_prefork_")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = f"{folder}/socket"
    with open(f"{folder}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            assert _start_server(path, owner).stdout.readline() == b"ready\n"
    return path


@functools.cache  # which keeps its stream open
def _start_server(path: str, owner: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.prefork", path, owner]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
