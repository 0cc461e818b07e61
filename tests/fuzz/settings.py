"""Damaged settings: what a workdir carries beside its checkpoints, and what is typed."""

import dataclasses
import functools
import json
import pathlib
import runpy

import numpy as np
from absl import flags
from etils import epath

from clippy_jax import config, convert, evaluate, segment
from clippy_jax.config import values_by_name
from clippy_jax.inference.class_embedding_cache import ClassEmbeddingCache
from clippy_jax.main import parse_flags
from clippy_jax.run import workdir_lock
from clippy_jax.run.json_lines import JsonLines, go_back, read_lines
from clippy_jax.run.workdir import read_config, read_model, read_optimizer
from tests.fuzz.damage import damaged, damaged_json, odd_value
from tests.fuzz.faults import Target

ROOT = pathlib.Path(__file__).parents[2]
_PROMPTS = [["a photo of a cat"], ["a photo of a dog"]]


@functools.cache
def _values() -> dict:
    values = runpy.run_path(str(ROOT / "configs" / "shapes.py"))["get_config"]()
    return dataclasses.asdict(config.parse(values))


def _read_workdir(content: bytes, folder: pathlib.Path) -> None:
    (folder / "config.json").write_bytes(content)
    faults = []
    for read in (read_config, read_model, read_optimizer):
        try:
            read(folder)
        except config.InputError as error:
            faults.append(error)
    if faults:
        raise faults[0]


def _override(random: np.random.Generator, folder: pathlib.Path) -> str:
    """An argument as it is typed: a field of the configuration, often misspelt, with an odd value."""
    names = list(values_by_name(_values()))
    name = names[random.integers(len(names))]
    if random.random() < 0.3:
        name = damaged(name.encode(), random).decode("utf-8", "replace")
    value = odd_value(random)
    value = value if isinstance(value, str) else repr(value)
    return f"--{name}{'' if random.random() < 0.05 else '='}{value}"


def _read_override(argument: str, folder: pathlib.Path) -> None:
    flags.FLAGS.unparse_flags()
    path = ROOT / "configs" / "shapes.py"
    _ends_in_a_line(lambda: parse_flags(["main", f"--config={path}", argument, f"--workdir={folder}"]))
    if flags.FLAGS.is_parsed() and flags.FLAGS.config is not None:
        config.parse(flags.FLAGS.config)


def _command(random: np.random.Generator, folder: pathlib.Path) -> tuple:
    """A program with some of its flags, their values odd."""
    program = (segment, evaluate, convert)[random.integers(3)]
    names = {
        segment: ("checkpoint", "image", "labels", "voc", "split", "count", "image_size", "output", "tokenizer"),
        evaluate: ("checkpoint", "voc", "imagenet", "image_size", "batch_size", "output", "segmentation_threshold"),
        convert: ("checkpoint", "clippy", "image", "text", "step", "epoch", "format", "network", "tokenizer", "output"),
    }[program]
    values = [odd_value(random) for _ in names]
    arguments = [f"--{name}={value}" for name, value in zip(names, values) if random.random() < 0.6]
    if program is convert:
        arguments.insert(0, ("to-flax", "to-torch", "inspect")[random.integers(3)])
    return program, arguments


def _read_command(command: tuple, folder: pathlib.Path) -> None:
    program, arguments = command
    _ends_in_a_line(lambda: program.main(arguments))


def _ends_in_a_line(run) -> None:
    try:
        run()
    except SystemExit as ended:
        assert ended.code in (1, 0), ended.code


def _read_metrics(content: bytes, folder: pathlib.Path) -> None:
    path = epath.Path(folder / "metrics.jsonl")
    path.write_bytes(content)
    go_back(path, 2)
    lines = JsonLines(path)
    lines.write(3, {"loss": 1.0})
    lines.close()
    assert read_lines(path)[-1] == {"step": 3, "loss": 1.0}


def _metrics(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    lines = [json.dumps({"step": step, "loss": 1 / step}) for step in range(1, 5)]
    lines[random.integers(4)] = damaged_json({"step": 2, "loss": 0.5}, random).decode("utf-8", "replace")
    content = "\n".join(lines).encode()
    return damaged(content, random) if random.random() < 0.5 else content


def _lock(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    return damaged_json({"machine": "elsewhere", "process": 1, "run": "1", "beat": 3}, random)


def _read_lock(content: bytes, folder: pathlib.Path) -> None:
    (folder / "lock").write_bytes(content)
    with workdir_lock.hold(folder, beat_seconds=0.001):
        pass


@functools.cache
def _embeddings(folder: pathlib.Path) -> tuple[ClassEmbeddingCache, pathlib.Path, bytes]:
    cache = ClassEmbeddingCache(folder / "classes", ("digest",))
    cache.write(_PROMPTS, np.ones((2, 4), np.float32))
    (file,) = cache.folder.iterdir()
    return cache, file, file.read_bytes()


def _read_embeddings(content: bytes, folder: pathlib.Path) -> None:
    cache, file, _ = _embeddings(folder)
    file.write_bytes(content)
    classes = cache.read(_PROMPTS)
    assert classes is None or classes.shape[0] == 2


TARGETS = (
    Target("config.json", lambda random, folder: damaged_json(_values(), random), _read_workdir),
    Target("override", _override, _read_override),
    Target("command", _command, _read_command),
    Target("metrics.jsonl", _metrics, _read_metrics),
    Target("lock", _lock, _read_lock),
    Target("class embeddings", lambda random, folder: damaged(_embeddings(folder)[2], random), _read_embeddings),
)
