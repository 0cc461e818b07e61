"""Starts the training program as one or several processes and kills it at chosen moments."""

import contextlib
import dataclasses
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO

from etils import epath

from clippy_jax.errors import InputError
from clippy_jax.run.json_lines import read_lines

_ROOT = str(pathlib.Path(__file__).parents[2])
_POLL = 0.02  # seconds
_HEARTBEAT = 20  # seconds after which processes miss one that was killed
_JOIN = 120  # seconds that processes wait for one that was killed before it came
_GRACE = 180.0  # seconds in which a start has to end once it was asked to


@dataclasses.dataclass(frozen=True)
class Layout:
    """Over how many processes and devices a start is spread; "2x4" is two processes with four devices each."""

    processes: int
    devices: int  # of each process

    @classmethod
    def parse(cls, text: str) -> "Layout":
        """Reads "2x4"; raises `InputError` for anything else."""
        processes, _, devices = text.partition("x")
        if not (processes.isdigit() and devices.isdigit() and int(processes) and int(devices)):
            raise InputError(f"--layouts: {text!r} is not PROCESSESxDEVICES such as 2x4")
        return cls(int(processes), int(devices))

    def __str__(self) -> str:
        return f"{self.processes}x{self.devices}"


@dataclasses.dataclass(frozen=True)
class Kill:
    """When and how a start is killed.

    Attributes:
      signal: "SIGKILL" or "SIGTERM".
      process: which of the processes gets it; taken modulo their number.
      step: after this step is reported; None for before the first one.
      seconds: and so much later; before the first step, so much after the start.
    """

    signal: str
    process: int
    step: int | None
    seconds: float


def plan_kills(
    count: int, seed: int, stop_step: int, save_every: int, start_seconds: float, step_seconds: float
) -> list[Kill]:
    """Kills at random moments of a run, in their order: while it makes steps, saves, starts or compiles.

    Args:
      save_every: steps from checkpoint to checkpoint; 0 for none.
      start_seconds: that a start takes to its first step.
      step_seconds: that a step takes.
    """
    chance = random.Random(seed)
    steps = sorted(chance.sample(range(1, stop_step), min(count, stop_step - 1)))
    kills = []
    for number, step in enumerate(steps):
        name, process = chance.choice(("SIGKILL", "SIGTERM")), chance.randrange(1 << 16)
        match number % 3:
            case 0:
                kills.append(Kill(name, process, step, chance.uniform(0, 2 * step_seconds)))
            case 1:  # right after the report of a step that is saved
                saved = step + -step % save_every if save_every else step
                kills.append(Kill(name, process, min(saved, stop_step - 1), 0.0))
            case 2:
                kills.append(Kill(name, process, None, chance.uniform(0.1, 1.1) * start_seconds))
    return kills


@dataclasses.dataclass(frozen=True)
class Start:
    """What became of one start of a run.

    Attributes:
      layout: over how many processes and devices.
      kill: the kill that was made; None where the run ended by itself.
      step: the last step that was reported.
      exit_statuses: of the processes; -9 and -15 for those that a signal ended at once.
      seconds: from the start to the kill or the end.
      seconds_to_first_step: from the start, as far as it came.
      seconds_to_end: from the kill until all processes had ended.
    """

    layout: str
    kill: Kill | None
    step: int
    exit_statuses: list[int]
    seconds: float
    seconds_to_first_step: float | None
    seconds_to_end: float | None


def run_until(
    flags: Sequence[str], workdir: pathlib.Path, layout: Layout, on_cpu: bool, kill: Kill | None = None
) -> Start:
    """Starts or continues a run and waits for its end; what it prints goes to files beside `workdir`.

    Args:
      flags: of the training program, without `--workdir`.
      on_cpu: make as many devices of the CPU as the layout says; else take so many of the accelerators.

    Raises:
      InputError: the program refuses what it is told, or does not end although it was killed.
    """
    logs = [workdir.with_name(f"{workdir.name}.process{number}.log") for number in range(layout.processes)]
    began, wall = time.monotonic(), time.time()
    first_step = killed = None
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(log.open("ab")) for log in logs]
        processes = _start([*flags, f"--workdir={workdir}"], layout, on_cpu, files)
        try:
            while any(process.poll() is None for process in processes):
                seconds, step = time.monotonic() - began, last_step(workdir, wall)
                if step and first_step is None:
                    first_step = seconds
                if kill and (seconds >= kill.seconds if kill.step is None else step >= kill.step):
                    time.sleep(kill.seconds if kill.step is not None else 0)
                    victim = processes[kill.process % layout.processes]
                    if victim.poll() is None:
                        killed = time.monotonic()
                        victim.send_signal(signal.Signals[kill.signal])
                    break
                time.sleep(_POLL)
            for process in processes:
                process.wait(None if killed is None else _GRACE)
            ended = time.monotonic()
        except subprocess.TimeoutExpired:
            raise InputError(f"{workdir}: {kill.signal} did not end the run within {_GRACE:.0f} s") from None
        finally:
            for process in processes:
                process.kill()
        statuses = [process.wait() for process in processes]
    if killed is None and any(statuses):
        said = [line for log in logs for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise InputError(f"the training program ended with status {max(statuses, key=abs)}: {said[-1] if said else ''}")
    return Start(
        str(layout),
        kill if killed else None,
        last_step(workdir),
        statuses,
        (killed or ended) - began,
        first_step,
        ended - killed if killed else None,
    )


def last_step(workdir: pathlib.Path, since: float = 0.0) -> int:
    """The last step that a run has reported; 0 if it has reported none since a moment, in Unix time."""
    file = epath.Path(workdir) / "metrics.jsonl"
    try:
        return max((line["step"] for line in read_lines(file)), default=0) if file.stat().mtime > since else 0
    except FileNotFoundError:
        return 0


def free_address() -> str:
    """Where processes can meet: a port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def _start(flags: Sequence[str], layout: Layout, on_cpu: bool, outputs: Sequence[IO[bytes]]) -> list[subprocess.Popen]:
    command = [sys.executable, "-m", "clippy_jax.main", *flags, f"--process_count={layout.processes}"]
    if layout.processes > 1:
        command += [f"--coordinator_address={free_address()}"]
        command += [f"--heartbeat_seconds={_HEARTBEAT}", f"--join_seconds={_JOIN}"]
    processes = []
    for number, output in enumerate(outputs):
        if on_cpu:
            devices = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={layout.devices}"
            chosen = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": devices}
        else:
            first = number * layout.devices
            chosen = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(first, first + layout.devices)))}
        # The same package as here, from wherever this is started.
        chosen["PYTHONPATH"] = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
        one = [f"--process_id={number}"] if layout.processes > 1 else []
        processes.append(
            subprocess.Popen([*command, *one], env=os.environ | chosen, stdout=output, stderr=subprocess.STDOUT)
        )
    return processes
