"""Real programs, started as a user starts them, watched and ended."""

import contextlib
import dataclasses
import queue
import re
import signal
import threading
import time
from collections.abc import Sequence

from clippy_jax.run.killed_runs import free_address
from tests import programs
from tests.xla_flags import xla_flags

TRAIN = ("-m", "clippy_jax.main")
_ONE_AT_A_TIME = threading.Lock()
_PATIENCE = 240.0  # seconds for a program to say or do something


@dataclasses.dataclass(frozen=True)
class Ended:
    """A program that has ended."""

    status: int
    output: str
    error: str
    seconds: float  # from `finish` on

    @property
    def last_line(self) -> str:
        """Of stderr."""
        return (self.error.splitlines() or [""])[-1]

    @property
    def lines(self) -> list[str]:
        """Of stderr, without the bars that show how far something is, which begin their line anew."""
        bar = re.compile(r"^.*\d+%\|")
        return [line for line in re.split(r"[\r\n]+", self.error) if line.strip() and not bar.match(line)]


class Program:
    """A Python program in a process of its own whose lines are read while it runs.

    It is forked by `tests/prefork.py`, which has the libraries imported, and from there on is like any other.
    """

    def __init__(self, arguments: Sequence[str], devices: int = 1):
        """Starts it.

        Args:
          arguments: for the interpreter.
          devices: virtual ones that JAX finds.
        """
        environment = {"XLA_FLAGS": xla_flags(devices), "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
        with _ONE_AT_A_TIME:  # the first of all starts the process that forks them
            self._process = programs.Program(arguments, environment)
        self.pid = self._process.pid
        self.lines: list[str] = []
        self._coming: queue.Queue[str | None] = queue.Queue()
        self._error: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=lambda: self._error.append(self._process.stderr.read()), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_output(self) -> None:
        for line in self._process.stdout:
            self.lines.append(line)
            self._coming.put(line)
        self._coming.put(None)

    def wait_for(self, text: str, seconds: float = _PATIENCE) -> bool:
        """Whether a line that begins with a text comes before the program ends."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._coming.get(timeout=left)
            except queue.Empty:
                return False
            if line is None:
                return False
            if line.startswith(text):
                return True
        return False

    def send(self, number: int) -> None:
        """Sends a signal; one that has ended gets none."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def lives(self) -> bool:
        """Whether it has not ended."""
        return not self._ends(0.0)

    def _ends(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except (TimeoutError, BlockingIOError):  # the latter where no time is given
            return False
        return True

    def finish(self, seconds: float = _PATIENCE) -> Ended:
        """Waits for the end; kills what does not end in time, and its status is then that of SIGKILL."""
        start = time.monotonic()
        if not self._ends(seconds):
            self._process.kill()
            self._ends(_PATIENCE)
        took = time.monotonic() - start
        for reader in self._readers:
            reader.join(10)
        return Ended(self._process.returncode, "".join(self.lines), "".join(self._error), took)


def start_together(arguments: Sequence[str], count: int) -> list[Program]:
    """The processes of one run of the training program; a single one needs no others to meet."""
    if count == 1:
        return [Program([*TRAIN, *arguments])]
    address = free_address()
    return [Program([*TRAIN, *arguments, *together(address, count, number)]) for number in range(count)]


def together(address: str, count: int, number: int) -> list[str]:
    """The flags by which processes meet."""
    return [f"--coordinator_address={address}", f"--process_count={count}", f"--process_id={number}"]


def one_line(ended: Ended, says: str = "") -> str:
    """ "" where a program ended with status 1 and a line of ours, with nothing of a traceback; else what it did."""
    if ended.status != 1:
        return f"status {ended.status}: {ended.last_line[:200]}"
    lines = ended.lines
    if not lines or not lines[-1].startswith("error: "):
        return f"the last line is no error of ours: {lines[-1:]}"
    if says not in lines[-1]:
        return f"the line does not say {says!r}: {lines[-1]}"
    if "Traceback" in ended.error + ended.output:
        return f"a traceback beside the line: {lines[-1]}"
    return "" if len(lines) <= 3 else f"{len(lines)} lines on stderr: {lines[0][:150]}"


def kill(program: Program) -> None:
    """Ends a program at once, and lets a stopped one be ended."""
    program.send(signal.SIGKILL)
    program.finish()
