"""The small run on which promises about training are tried, and what its state is."""

import json
import pathlib

from clippy_jax.run.checkpointing import restore_arrays
from clippy_jax.weights.parameter_digest import parameter_digest
from tests import small_run
from tools.soak.programs import Program, start_together

STEPS = 200
_FIELDS = dict(
    schedule__stop_step=STEPS,
    schedule__decay_steps=STEPS,
    checkpoint__every_steps=10,
    checkpoint__every_minutes=0.0,
    checkpoint__keep=3,
)


def flags(folder: pathlib.Path, **fields) -> list[str]:
    """The flags of a run that saves at every 10th step and evaluates at every 7th.

    Args:
      folder: in which the data set lies, or is rendered.
      fields: others, with `__` for the dots.
    """
    data = folder / "data"
    evaluated = dict(evals__tasks__imagenet__path=f"{data}/imagenet/val", evals__tasks__imagenet__every_steps=7)
    return small_run.flags(data, **(_FIELDS | evaluated | fields))


def state_digest(workdir: pathlib.Path) -> str:
    """Of every bit of the newest checkpoint's parameters and optimizer state, and of its step."""
    return parameter_digest(restore_arrays(workdir, ("params", "optimizer_state", "step")))


def newest(workdir: pathlib.Path) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    folder = workdir / "checkpoints"
    steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.exists() else []
    return max(steps, default=0)


def left_behind(workdir: pathlib.Path) -> list[str]:
    """Temporary files and folders in a workdir."""
    marks = ("incomplete", "replaced", "orbax-checkpoint-tmp", ".writable")
    return [str(path.relative_to(workdir)) for path in workdir.rglob("*") if any(mark in path.name for mark in marks)]


class Reference:
    """An uninterrupted run, to compare others with."""

    def __init__(self, folder: pathlib.Path, processes: int = 1, **fields):
        """Makes the run; `fields` as `flags` takes them."""
        self.flags = flags(folder, **fields)
        self.processes = processes
        self.workdir = folder / "-".join(["uninterrupted", str(processes), *map(str, fields.values())])
        ended = self.start(self.workdir)[0].finish()
        if ended.status:
            raise RuntimeError(f"the run to compare with failed: {ended.error[-2000:]}")
        self._digest, self._steps = state_digest(self.workdir), training_steps(self.workdir)

    def start(self, workdir: pathlib.Path) -> list[Program]:
        """The same run in a workdir of its own: one program for each process."""
        arguments = [*self.flags, f"--workdir={workdir}"]
        return start_together(arguments, self.processes)

    def differs(self, workdir: pathlib.Path) -> str:
        """How a finished run differs from it, "" if in nothing: each step once, the same state bit for bit."""
        if (steps := training_steps(workdir)) != self._steps:
            return f"steps in metrics.jsonl: {steps}"
        return "" if state_digest(workdir) == self._digest else "the last state is another one"


def training_steps(workdir: pathlib.Path) -> list[int]:
    """The steps that a run has told of, in order."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "loss" in line]
