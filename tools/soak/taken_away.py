"""Runs that are taken away: by signals, by SIGKILL, alone and in two processes."""

import functools
import pathlib
import random
import signal
import time
from collections.abc import Iterator

from tools.soak import runs
from tools.soak.programs import Ended, Program
from tools.soak.promises import Promise, side_by_side

GRACE = 60.0  # seconds that a run may take to save and leave; on an idle machine it is a few
_MOMENTS = {  # what a run says at the beginning of each, and how long it lasts at least, in seconds
    "starting": ("config.model", 1.0),
    "compiling": ("Parameters:", 2.0),
    "stepping": ("step  2", 0.3),
    "saving": ("step  8", 0.1),
    "evaluating": ("step  7", 0.2),
}
_CHAINS = 2  # side by side, on as many cores


def _moments(seed: int, count: int) -> Iterator[tuple[str, float]]:
    """Moments in turn, each with a random delay after its beginning."""
    drawn = random.Random(seed)
    for number in range(count):
        name = list(_MOMENTS)[number % len(_MOMENTS)]
        yield name, drawn.uniform(0, _MOMENTS[name][1])


def _reach(program: Program, moment: str, delay: float, first: bool) -> None:
    """Waits until a run is at a moment. A run that goes on is past the steps that mark them: it counts on."""
    beginning = _MOMENTS[moment][0]
    if not first and beginning.startswith("step"):
        beginning = "step"
    program.wait_for(beginning)
    time.sleep(delay)


def _obeyed(ended: Ended, workdir: pathlib.Path, name: str) -> str:
    """Whether a run that got a signal ended in order."""
    if ended.status != 0:
        return f"status {ended.status}, {ended.last_line[:200]}"
    if ended.seconds > GRACE:
        return f"took {ended.seconds:.0f} s"
    finished = f"step {runs.STEPS}/{runs.STEPS}" in ended.output
    saved = f"stopped after step {runs.newest(workdir):,}, which is saved" in ended.output
    before_any = "step  " not in ended.output
    if not (finished or saved or before_any):
        return f"does not say what is saved: {ended.output.splitlines()[-1:]}"
    if not finished and f"{name}: stopping after this step" not in ended.output:
        return "does not say that it stops"
    return "" if not runs.left_behind(workdir) else f"left {runs.left_behind(workdir)}"


def _chain(reference: runs.Reference, workdir: pathlib.Path, seed: int, numbers: list[int]) -> list[str]:
    """Interrupts the same run again and again, then has it finish, and compares it.

    Each interruption is a try; so is the comparison at the end.
    """
    results = []
    for turn, (moment, delay) in enumerate(_moments(seed, len(numbers))):
        number = numbers[turn]
        programs = reference.start(workdir)
        _reach(programs[0], moment, delay, turn == 0)
        for program in programs if number == signal.SIGKILL else programs[:1]:
            program.send(number)
        ended = [program.finish(2 * GRACE) for program in programs]
        if number == signal.SIGKILL:
            fault = "" if ended[0].status in (0, -signal.SIGKILL) else f"status {ended[0].status}"
        else:
            fault = _obeyed(ended[0], workdir, signal.Signals(number).name)
            fault = fault or next((f"another process: status {each.status}" for each in ended[1:] if each.status), "")
        results.append(fault and f"{signal.Signals(number).name} while {moment}, {delay:.2f} s in: {fault}")
    ended = [program.finish() for program in reference.start(workdir)][0]
    results.append(f"the last start: {ended.last_line}" if ended.status else reference.differs(workdir))
    return results


def _chains(folder: pathlib.Path, signals: list[int], tries: int, processes: int = 1) -> Iterator[str]:
    reference = _reference(folder.parent, processes)

    def attempt(chain: int) -> list[str]:
        numbers = [signals[(chain + turn) % len(signals)] for turn in range(len(_MOMENTS))]
        return _chain(reference, folder / str(chain), chain, numbers)

    for results in side_by_side(attempt, range(-(-tries // len(_MOMENTS))), max(1, _CHAINS // processes)):
        yield from results


@functools.cache
def _reference(folder: pathlib.Path, processes: int = 1) -> runs.Reference:
    return runs.Reference(folder, processes)


def _second_signals(folder: pathlib.Path) -> Iterator[str]:
    reference = _reference(folder.parent)

    def attempt(case: tuple[signal.Signals, signal.Signals]) -> str:
        first, second = case
        (program,) = reference.start(folder / f"{first.name}-{second.name}")
        program.wait_for("Parameters:")
        program.send(first)
        program.wait_for(f"{first.name}: stopping")
        program.send(second)
        ended = program.finish(10)
        fine = ended.status == 128 + second and ended.seconds < 5
        return "" if fine else f"{first.name}, {second.name}: status {ended.status} in {ended.seconds:.1f} s"

    cases = ((signal.SIGTERM, signal.SIGINT), (signal.SIGUSR1, signal.SIGTERM), (signal.SIGINT, signal.SIGINT))
    yield from side_by_side(attempt, cases)


_COMPARED = "moments in turn: starting, compiling, stepping, saving, evaluating, each with a random delay; "
PROMISES = (
    Promise(
        "SIGTERM, SIGUSR1, SIGINT: one process finishes its step, saves, says so and exits with 0",
        _COMPARED + "status, time, what is said, no temporary files; at the end of five the state and every step's "
        "line of the same command's last start, bit for bit an uninterrupted run's",
        lambda folder: _chains(folder, [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], 15),
    ),
    Promise(
        "the same in two processes, one of which is told",
        _COMPARED + "the same, and the other process's status",
        lambda folder: _chains(folder, [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], 5, processes=2),
    ),
    Promise(
        "a second signal ends at once",
        "while the first is being obeyed; status 128 + its number within 5 s",
        _second_signals,
    ),
    Promise(
        "kill -9 at any moment: the same command goes on, and the end is the same bit for bit",
        _COMPARED + "at the end of five the last state, and each step once in metrics.jsonl",
        lambda folder: _chains(folder, [signal.SIGKILL], 20),
    ),
)
