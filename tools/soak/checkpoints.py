"""Checkpoints damaged in every way: what is read is exactly what was saved, or refused in one line."""

import itertools
import os
import pathlib
import random
import shutil
from collections.abc import Callable, Iterator

import jax
import numpy as np

from clippy_jax.config import CheckpointConfig
from clippy_jax.errors import InputError
from clippy_jax.run.checkpointing import Checkpointer, restore_arrays
from tools.soak import runs
from tools.soak.programs import Program, one_line
from tools.soak.promises import Promise, side_by_side

_STEPS = (5, 9)
_CONFIG = CheckpointConfig(every_steps=0, every_minutes=0.0, keep=9, keep_every_steps=0)
_ROUNDS = 3  # of all damages to all files


def _state(step: int) -> dict:
    """Arrays like those of a train state, large and small."""
    key = jax.random.key(step)
    params = {"kernel": jax.random.normal(key, (3, 32, 48)), "bias": jax.random.normal(key, (48,))}
    moments = jax.tree.map(lambda x: x * 0.5, params)
    return {"params": params, "optimizer_state": moments, "step": np.int32(step), "key": key}


def _flip(path: pathlib.Path, drawn: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
    path.write_bytes(content)


_DAMAGES: dict[str, Callable[[pathlib.Path, random.Random], object]] = {
    "emptied": lambda path, drawn: path.write_bytes(b""),
    "cut": lambda path, drawn: os.truncate(path, drawn.randrange(path.stat().st_size + 1)),
    "removed": lambda path, drawn: path.unlink(),
    "a bit turned over": _flip,
    "a block of zeros": lambda path, drawn: path.write_bytes(bytes(path.stat().st_size)),
    "another file's content": lambda path, drawn: path.write_bytes(b"not what was here"),
}


def _save(workdir: pathlib.Path) -> dict[int, dict]:
    """Saves a checkpoint of every step; returns the states."""
    saved = {step: _state(step) for step in _STEPS}
    with Checkpointer(workdir, _CONFIG, clock_every_steps=1) as checkpointer:
        for step, state in saved.items():
            checkpointer.save(step, state)
    return saved


def _damaged(folder: pathlib.Path) -> Iterator[str]:
    saved = _save(folder / "whole")
    newest = folder / "whole" / "checkpoints" / str(_STEPS[-1])
    files = sorted(path.relative_to(newest) for path in newest.rglob("*") if path.is_file())
    drawn = random.Random(0)
    for turn in range(_ROUNDS):
        for file in files:
            for name, damage in _DAMAGES.items():
                workdir = folder / "damaged"
                shutil.rmtree(workdir, ignore_errors=True)
                shutil.copytree(folder / "whole", workdir)
                damage(workdir / "checkpoints" / str(_STEPS[-1]) / file, drawn)
                fault = _read(workdir, saved)
                yield fault and f"{file} {name}, round {turn}: {fault}"


def _folders(folder: pathlib.Path) -> Iterator[str]:
    """Whole folders: empty ones, halves of copies, files in their place."""
    saved, drawn = _save(folder / "whole"), random.Random(1)
    for number in range(60):
        workdir = folder / str(number)
        shutil.copytree(folder / "whole", workdir)
        checkpoints = workdir / "checkpoints"
        match number % 5:
            case 0:
                (checkpoints / "45").mkdir()
            case 1:  # a copy that was stopped half-way
                shutil.copytree(checkpoints / "9", checkpoints / "45")
                files = [path for path in (checkpoints / "45").rglob("*") if path.is_file()]
                for path in drawn.sample(files, drawn.randrange(1, len(files))):
                    path.unlink()
            case 2:
                shutil.rmtree(checkpoints / "9" / "state")
            case 3:
                shutil.rmtree(checkpoints / "9" / "state" / "d", ignore_errors=True)
            case 4:  # half-written, under Orbax's temporary name
                (checkpoints / "9").rename(checkpoints / "9.orbax-checkpoint-tmp")
        fault = _read(workdir, saved)
        yield fault and f"damage {number % 5}: {fault}"


def _read(workdir: pathlib.Path, saved: dict[int, dict]) -> str:
    """Reads as programs that use a run do, and as the run itself does; "" where both read what was saved."""
    try:
        params, step = restore_arrays(workdir, ("params", "step"))
        if not _same(params, saved[int(step)]["params"]):
            return f"other values for step {step} without a word"
        with Checkpointer(workdir, _CONFIG, clock_every_steps=1) as checkpointer:
            device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), saved[_STEPS[0]])
            state = checkpointer.restore(like)
        keys = state.pop("key"), saved[int(state["step"])]["key"]
        expected = {name: value for name, value in saved[int(state["step"])].items() if name != "key"}
        if not _same(state, expected) or not _same(*map(jax.random.key_data, keys)):
            return f"a run would go on from other values of step {state['step']}"
    except InputError as error:
        return f"refused although step {_STEPS[0]} is whole: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _same(one, other) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


def _programs(folder: pathlib.Path) -> Iterator[str]:
    """Training, evaluate, segment, convert and inspect, with one damaged checkpoint and with nothing but."""
    reference = runs.Reference(folder.parent, schedule__stop_step=20)
    data = folder.parent / "data"
    image = next((data / "voc" / "JPEGImages").glob("*.jpg"))
    programs = {
        "evaluate": lambda run, out: [f"--checkpoint={run}", f"--imagenet={data}/imagenet/val", f"--output={out}.json"],
        "segment": lambda run, out: [
            *(f"--checkpoint={run}", f"--image={image}", "--labels=apple,zebra", f"--output={out}.png")
        ],
        "convert": lambda run, out: ["to-torch", f"--checkpoint={run}", f"--output={out}.pt"],
        "main": lambda run, out: [*reference.flags, f"--workdir={run}"],
    }

    def attempt(name: str, all_of_them: bool) -> str:
        run, out = folder / f"{name}-{all_of_them}", folder / f"{name}-{all_of_them}-out"
        shutil.copytree(reference.workdir, run)
        for step in (path for path in (run / "checkpoints").iterdir() if path.name in ("20", "10")):
            if all_of_them or step.name == "20":
                _flip(next((step / "state" / "d").iterdir()), random.Random(3))
        ended = Program(["-m", f"clippy_jax.{name}", *programs[name](run, out)]).finish()
        said = [line for line in ended.output.splitlines() if "20 is damaged (" in line]
        fault = "" if len(said) == 1 else f"says {len(said)} times which checkpoint is damaged"
        if all_of_them:
            fault = one_line(ended, "20 is damaged (")
        elif ended.status:
            fault = f"status {ended.status}: {ended.last_line}"
        return fault and f"{name}: {fault}"

    yield from side_by_side(lambda case: attempt(*case), itertools.product(programs, (False, True)))


PROMISES = (
    Promise(
        "any damage to any file of the newest checkpoint: what is read is exactly what was saved, then or before",
        f"every file x {', '.join(_DAMAGES)}, {_ROUNDS} times; read as programs do and as the run itself does, every "
        "array compared bit for bit",
        _damaged,
    ),
    Promise(
        "folders with a number that are empty, half of a copy or half-written: the newest whole one is used",
        "the same",
        _folders,
    ),
    Promise(
        "training, evaluate, segment and convert say which checkpoint is damaged, in one line",
        "real programs; the newest damaged: status 0 and one line; all damaged: status 1 and one line, nothing written",
        _programs,
    ),
)
