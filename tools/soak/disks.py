"""Disks that are full, read-only or gone, and a clock that jumps."""

import contextlib
import functools
import itertools
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

from clippy_jax.run.checkpointing import restore_arrays
from tools.soak import runs
from tools.soak.programs import Program, one_line
from tools.soak.promises import Promise, side_by_side

_ROOMY = 400_000  # kilobytes

# The training program, with a disk that somebody else fills while the checkpoint of a step is written.
_FILLED = """
import os, runpy, sys
step, filler = sys.argv.pop(1), sys.argv.pop(1)
def fill(event, arguments):
    if event == "os.mkdir" and f"/checkpoints/{step}.orbax" in str(arguments[0]):
        try:
            with open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        except OSError:
            pass
sys.addaudithook(fill)
runpy.run_module("clippy_jax.main", run_name="__main__", alter_sys=True)
"""

# The training program, with a clock that jumps by up to ten years whenever somebody looks at it.
_JUMPING = """
import random, runpy, sys, time
now, drawn = time.time, random.Random(int(sys.argv.pop(1)))
time.time = lambda: now() + drawn.uniform(-3e8, 3e8)
time.time_ns = lambda: int(time.time() * 1e9)
runpy.run_module("clippy_jax.main", run_name="__main__", alter_sys=True)
"""

# The training program without root's rights to write and read everything (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH).
_WITHOUT_RIGHTS = """
import ctypes, runpy
system, head, rights = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()
assert system.capget(head, rights) == 0
rights[:3] = [each & ~0b110 for each in rights[:3]]
assert system.capset(head, rights) == 0
runpy.run_module("clippy_jax.main", run_name="__main__", alter_sys=True)
"""


@functools.cache
def _reference(folder: pathlib.Path) -> runs.Reference:
    return runs.Reference(folder, schedule__stop_step=20, checkpoint__every_steps=5, checkpoint__keep=9)


@contextlib.contextmanager
def _disk(folder: pathlib.Path, kilobytes: int) -> Iterator[pathlib.Path]:
    """A file system of its own in memory; needs root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "soak", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _full(folder: pathlib.Path) -> Iterator[str]:
    """Each size is full at another moment: making the workdir, the tokenizer, the first checkpoint, a later one."""
    reference = _reference(folder.parent)

    def attempt(kilobytes: int) -> str:
        with _disk(folder / str(kilobytes), kilobytes) as disk:
            (program,) = reference.start(disk / "run")
            return _told(program, f"{kilobytes} kB", disk / "run") or _goes_on(reference, disk)

    yield from side_by_side(attempt, (4, 64, 240, 248, 300, 700, 1200, 1700))


def _filled(folder: pathlib.Path) -> Iterator[str]:
    reference = _reference(folder.parent)

    def attempt(step: int) -> str:
        with _disk(folder / str(step), 20_000) as disk:
            filler = disk / "filler"
            program = Program(["-c", _FILLED, str(step), str(filler), *reference.flags, f"--workdir={disk}/run"])
            told = _told(program, f"filled at step {step}", disk / "run")
            filler.unlink(missing_ok=True)
            return told or _goes_on(reference, disk)

    yield from side_by_side(attempt, (5, 10, 15, 20))


def _told(program: Program, what: str, workdir: pathlib.Path) -> str:
    """Whether a run that cannot write ended in one line with its last checkpoint intact and nothing else left."""
    fault = one_line(program.finish())
    if not fault and workdir.exists():
        fault = f"left {runs.left_behind(workdir)}" if runs.left_behind(workdir) else ""
        if runs.newest(workdir):
            restore_arrays(workdir, ("params",))
    return fault and f"{what}: {fault}"


def _goes_on(reference: runs.Reference, disk: pathlib.Path) -> str:
    """Whether the same command ends as if nothing had been, once there is room."""
    subprocess.run(["mount", "-o", f"remount,size={_ROOMY}k", disk], check=True)
    (ended,) = (program.finish() for program in reference.start(disk / "run"))
    return f"with room: {ended.last_line}" if ended.status else reference.differs(disk / "run")


def _outputs(folder: pathlib.Path) -> Iterator[str]:
    """Programs whose output does not fit; their folder is empty afterwards, or as it was."""
    reference = _reference(folder.parent)
    data, run = folder.parent / "data", reference.workdir
    image = next((data / "voc" / "JPEGImages").glob("*.jpg"))
    programs = {
        "evaluate": ["--class_cache=", f"--imagenet={data}/imagenet/val", "--output={}/out.json"],
        "segment": [f"--image={image}", "--labels=apple,zebra", "--output={}/out.png"],
        "convert to-torch": ["--output={}/out.pt", "--force"],
        "convert to-torch --format=safetensors": ["--output={}/out.safetensors", "--force"],
        "convert to-torch --format=sentence-transformers": ["--output={}/out", "--force"],
    }

    def attempt(case: tuple[str, bool]) -> str:
        name, before = case
        arguments = programs[name]
        with _disk(folder / f"{name}-{before}", 8 if name in ("evaluate", "segment") else 100) as disk:
            output = disk / arguments[-1 if "--force" not in arguments else -2].rpartition("/")[2]
            if before:
                output.write_text("what was there before")
            elif name == "evaluate":
                (disk / "other").write_bytes(bytes(4096))
            there = sorted(os.listdir(disk))
            program, *more = name.split()
            command = ["-m", f"clippy_jax.{program}", *more, f"--checkpoint={run}"]
            fault = one_line(Program([*command, *(each.format(disk) for each in arguments)]).finish(), "No space")
            if sorted(os.listdir(disk)) != there:
                fault = fault or f"left {sorted(os.listdir(disk))}"
            if before and output.read_text() != "what was there before":
                fault = fault or "what was there before is gone"
        return fault and f"{name}: {fault}"

    yield from side_by_side(attempt, itertools.product(programs, (False, True)))


def _read_only(folder: pathlib.Path) -> Iterator[str]:
    reference = _reference(folder.parent)

    def attempt(case: tuple[str, str]) -> str:
        name, at = case
        parent = folder / f"{name.replace('/', '-')} {at.strip(':')}"
        (parent / "run").mkdir(parents=True)
        if not at:
            (parent / name).mkdir(exist_ok=True)
            (parent / name).chmod(0o555)
        program = Program(["-c", _WITHOUT_RIGHTS, *reference.flags, f"--workdir={parent}/run"])
        if at:
            program.wait_for(at)
            (parent / name).chmod(0o555)
        fault = one_line(program.finish())
        (parent / name).chmod(0o755)
        if not fault:
            (ended,) = (again.finish() for again in reference.start(parent / "run"))
            fault = f"afterwards: {ended.last_line}" if ended.status else reference.differs(parent / "run")
        return fault and f"{name} read-only from {at or 'the start'} on: {fault}"

    cases = [("run", ""), ("run/tensorboard", ""), ("run/checkpoints", "step  6"), ("run", "step  6")]
    yield from side_by_side(attempt, [*cases, ("run", "Parameters:")])
    with _disk(folder / "mounted", _ROOMY) as disk:  # a run that goes on where its disk was mounted read-only
        shutil.copytree(reference.workdir, disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        (ended,) = (program.finish() for program in reference.start(disk / "run"))
        yield one_line(ended, "Read-only file system")


def _deleted(folder: pathlib.Path) -> Iterator[str]:
    reference = _reference(folder.parent)

    def attempt(at: str) -> str:
        workdir = folder / at.strip(":")
        (program,) = reference.start(workdir)
        program.wait_for(at)
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.rmtree(workdir, ignore_errors=True)
        fault = one_line(program.finish())
        return fault and f"deleted after {at!r}: {fault}"

    yield from side_by_side(attempt, ("Parameters:", "step  2", "step  6", "step 11", "step 20"))


def _clock(folder: pathlib.Path) -> Iterator[str]:
    reference = _reference(folder.parent)

    def attempt(seed: int) -> str:
        workdir = folder / str(seed)
        ended = Program(["-c", _JUMPING, str(seed), *reference.flags, f"--workdir={workdir}"]).finish()
        return ended.last_line if ended.status else reference.differs(workdir)

    yield from side_by_side(attempt, (0, 1))


PROMISES = (
    Promise(
        "a full disk ends a run in one line, with the last checkpoint intact; with room it goes on",
        "file systems of 4 to 1,700 kB, each full at another moment; status 1, one line, no temporary file, the newest "
        "checkpoint readable; then the same command with room: state bit for bit an uninterrupted run's",
        _full,
    ),
    Promise(
        "so does a disk that somebody fills while a checkpoint is written",
        "filled to the last byte as Orbax begins; the same",
        _filled,
    ),
    Promise(
        "evaluate, segment and convert leave nothing half-written on a full disk, and what was there",
        "status 1, one line, the folder as before",
        _outputs,
    ),
    Promise(
        "a workdir that is or becomes read-only ends a run in one line",
        "from the start, while compiling, between checkpoints, and mounted so; writable again it goes on, bit for bit",
        _read_only,
    ),
    Promise("a workdir that is deleted under the run ends it in one line", "at five moments", _deleted),
    Promise(
        "a clock that jumps by years changes nothing",
        "time.time() anywhere within 10 years at every look; the state bit for bit",
        _clock,
    ),
)
