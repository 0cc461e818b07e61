"""Several processes and several runs: one dies, hangs or never comes; two want the same workdir."""

import functools
import pathlib
import signal
import time
from collections.abc import Iterator

from clippy_jax.run.killed_runs import free_address
from tools.soak import runs
from tools.soak.programs import TRAIN, Program, kill, start_together, together
from tools.soak.promises import Promise, side_by_side

_HEARTBEAT = 8  # seconds, in place of 100
_BOUND = 4 * _HEARTBEAT + 10  # seconds in which the others end
_JOIN = 5  # in place of 300
_MOST_LINES = 3  # on stderr: that it waits for the others, what JAX warns of, and the one that counts


def _start(folder: pathlib.Path, workdir: pathlib.Path) -> list[Program]:
    flags = [*runs.flags(folder, schedule__stop_step=5000), f"--workdir={workdir}"]
    return start_together([*flags, f"--heartbeat_seconds={_HEARTBEAT}", f"--join_seconds={_JOIN * 6}"], 2)


def _lost(number: int, folder: pathlib.Path) -> Iterator[str]:
    """A process gets a signal that it cannot answer; the other one ends."""
    runs.flags(folder.parent)  # renders the data
    cases = [(lost, moment) for lost in (0, 1) for moment in ("compiled for", "step    8")]
    yield from side_by_side(lambda case: _lost_at(number, *case, folder), cases, len(cases))  # most of it is waiting


def _lost_at(number: int, lost: int, moment: str, folder: pathlib.Path) -> str:
    programs = _start(folder.parent, folder / f"{lost}-{moment.split()[0]}")
    programs[0].wait_for(moment)
    time.sleep(0.2)
    programs[lost].send(number)
    ended = programs[1 - lost].finish(_BOUND)
    kill(programs[lost])
    fault = ""
    if ended.status in (0, -signal.SIGKILL):
        fault = f"status {ended.status} after {ended.seconds:.0f} s"
    elif not ended.last_line.startswith(f"error: process {lost} of this run ended or gives no sign of life"):
        fault = f"does not say which: {ended.last_line[:200]}"
    elif len(ended.lines) > _MOST_LINES:
        fault = " / ".join(line[:100] for line in ended.lines)
    return fault and f"process {lost} lost after {moment!r}: {fault}"


def _never_comes(folder: pathlib.Path) -> Iterator[str]:
    flags = [*runs.flags(folder.parent), f"--join_seconds={_JOIN}"]

    def attempt(number: int) -> str:
        address, workdir = free_address(), folder / str(number)
        program = Program([*TRAIN, *flags, f"--workdir={workdir}", *together(address, 2, number)])
        ended = program.finish(_JOIN + 60)
        said = f"error: not all 2 processes of the run came to {address} within {_JOIN} s"
        fine = ended.status == 1 and ended.last_line.startswith(said) and "Traceback" not in ended.error
        return "" if fine else f"process {number}: status {ended.status}: {ended.last_line[:200]}"

    yield from side_by_side(attempt, (0, 1))


def _one_workdir(folder: pathlib.Path) -> Iterator[str]:
    """While a run compiles, steps, or is stopped, a second one is refused; after its end by SIGKILL it is let in."""
    flags = runs.flags(folder.parent, schedule__stop_step=5000)

    def attempt(case: tuple[str, bool]) -> list[str]:
        moment, stopped = case
        workdir = folder / str(moment.split()[-1].strip(":"))
        first = Program([*TRAIN, *flags, f"--workdir={workdir}"])
        first.wait_for(moment)
        if stopped:
            first.send(signal.SIGSTOP)
        ended = Program([*TRAIN, *flags, f"--workdir={workdir}"]).finish()
        refused = ended.status == 1 and f"process {first.pid} on" in ended.last_line
        alive = first.lives()
        kill(first)
        again = Program([*TRAIN, *flags, f"--workdir={workdir}"])
        let_in = again.wait_for("step")
        kill(again)
        return [
            "" if refused and alive else f"{moment}: status {ended.status}: {ended.last_line[:200]}",
            "" if let_in else f"after SIGKILL: {again.lines[-1:]}",
        ]

    for results in side_by_side(attempt, (("Parameters:", False), ("step    2", False), ("step   11", True))):
        yield from results


PROMISES = (
    Promise(
        "one of two processes is killed: the other ends within the bound and says so",
        f"SIGKILL to either, while compiling and stepping; within {_BOUND} s with a heartbeat of "
        f"{_HEARTBEAT} s; no page of C++: at most 3 lines, the last of which names the process",
        functools.partial(_lost, signal.SIGKILL),
    ),
    Promise(
        "one of two processes hangs: the other ends within the bound and says so",
        "SIGSTOP, the same",
        functools.partial(_lost, signal.SIGSTOP),
    ),
    Promise(
        "a process that never comes ends the others in one line",
        f"each of two alone, with --join_seconds={_JOIN}",
        _never_comes,
    ),
    Promise(
        "one run, one workdir: a second is refused while the first lives, and let in when it was killed",
        "while it compiles, steps and is stopped by SIGSTOP",
        _one_workdir,
    ),
)
