"""The training step, ours and eager PyTorch's: uint8 images and token ids in, updated parameters out.

Each side runs in a process of its own, so that its peak memory is its own, and alone: beside a living but idle process
of 5 GB a step took up to a quarter longer than without, on a machine that reclaims idle memory. The sides take turns,
a few steps each, so that whatever else the machine does meets both. This module needs no more than jax, flax, optax,
torch and transformers.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from clippy_jax.config import (
    ImageTowerConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TextTowerConfig,
)
from tools.benchmarks.report import Case, Report, environment

SIZES = {"b16": ("B/16", "base", 32128), "tiny": ("Ti/16", "tiny", 100)}
TEXT_LENGTH = 77
TURNS = 2
OPTIMIZER = OptimizerConfig(beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.2, gradient_clip_norm=0.0, freeze=())
SCHEDULE = ScheduleConfig(peak_learning_rate=5e-4, warmup_steps=10_000, decay_steps=43_008, stop_step=5_000)
PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "transformers")


def measure(size: str, batch_size: int, steps: int, settings: Sequence[bool]) -> Report:
    """Times `TURNS * steps` steps of both sides, for each setting of rematerialisation (gradient checkpointing)."""
    cases, where = [], None
    for rematerialise in settings:
        ready, memory, seconds = {}, {}, {"ours": [], "peer": []}
        for _ in range(TURNS):
            for side in seconds:
                ready[side], memory[side], taken = _turn(side, size, batch_size, rematerialise, steps)
                seconds[side] += taken
        where = where or environment(f"{ready['ours']['device']} (peer: {ready['peer']['device']})", PACKAGES)
        name = f"{size}, batch {batch_size}{', rematerialised' if rematerialise else ''}"
        median, spread = ({side: f(times) for side, times in seconds.items()} for f in (np.median, _middle_half))
        cases += [
            Case(f"step time, {name}", median["ours"], median["peer"], "s", spread["ours"], spread["peer"]),
            Case(f"{memory['ours']['of']}, {name}", memory["ours"]["bytes"] / 1e9, memory["peer"]["bytes"] / 1e9, "GB"),
            Case(f"compile time, {name}", ready["ours"]["compile_seconds"], None, "s"),
        ]
    return Report(where, cases)


def _middle_half(values: list[float]) -> tuple[float, float]:
    return tuple(np.quantile(values, (0.25, 0.75)).tolist())


def _turn(
    side: str, size: str, batch_size: int, rematerialise: bool, steps: int
) -> tuple[dict[str, Any], dict[str, Any], list[float]]:
    """One side in a fresh process: what it is, its peak memory, the seconds of each step."""
    command = [sys.executable, "-m", __name__, side, size, str(batch_size), str(int(rematerialise)), str(steps)]
    finished = subprocess.run(
        command,
        cwd=pathlib.Path(__file__).parents[2],
        env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},  # a GPU's memory is for both sides
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(finished.stdout)


def _model(size: str, rematerialise: bool) -> ModelConfig:
    from clippy_jax.models import t5, vit

    image, text, vocabulary_size = SIZES[size]
    return ModelConfig(
        image=ImageTowerConfig(**vit.SIZES[image], image_size=224, position_interpolation="dino", patch_dropout=0.0),
        text=TextTowerConfig(
            **t5.SIZES[text],
            vocabulary_size=vocabulary_size,
            gated_mlp=False,
            relative_buckets=32,
            relative_max_distance=128,
            dropout=0.1,
        ),
        pooling="max_with_cls",
        image_projection=False,
        precision="float32",
        rematerialise=rematerialise,
    )


def _batch(size: str, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch_size, 224, 224, 3), dtype=np.uint8)
    tokens = random.integers(3, SIZES[size][2], (batch_size, TEXT_LENGTH), dtype=np.int32)
    return images, tokens


Side = tuple[dict[str, Any], Callable[[], float], Callable[[], dict[str, Any]]]  # what it is, step, peak memory


def _ours(size: str, batch_size: int, rematerialise: bool) -> Side:
    import jax

    from clippy_jax.training.optimizer import make_optimizer
    from clippy_jax.training.sharding import make_mesh
    from clippy_jax.training.state import init_state
    from clippy_jax.training.step import make_train_step

    # The part of a configuration that the step reads.
    config = types.SimpleNamespace(
        model=_model(size, rematerialise),
        loss=LossConfig("softmax", "mean"),
        microbatches=1,
        optimizer=OPTIMIZER,
        schedule=SCHEDULE,
    )
    batch = jax.device_put(_batch(size, batch_size))
    optimizer = make_optimizer(OPTIMIZER, SCHEDULE)
    state = jax.jit(lambda key: init_state(config.model, config.loss, 224, optimizer, (), key))(jax.random.key(0))
    jax.block_until_ready(state)
    start = time.perf_counter()
    compiled = jax.jit(make_train_step(config, make_mesh()), donate_argnums=0).lower(state, *batch).compile()
    compile_seconds = time.perf_counter() - start

    def step() -> float:
        nonlocal state
        start = time.perf_counter()
        state, metrics = compiled(state, *batch)
        jax.block_until_ready((state, metrics))
        return time.perf_counter() - start

    device = jax.devices()[0]

    def peak_memory() -> dict[str, Any]:
        if device.platform == "cpu":
            return _peak_of_process()
        return {"of": "peak device memory", "bytes": device.memory_stats()["peak_bytes_in_use"]}

    return {"device": device.device_kind, "compile_seconds": compile_seconds}, step, peak_memory


def _peer(size: str, batch_size: int, rematerialise: bool) -> Side:
    import torch

    from tools.benchmarks.torch_clippy import TorchCLIPpy, contrastive_loss

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = TorchCLIPpy(_model(size, rematerialise), "sdpa").to(device).train()
    images, tokens = (torch.from_numpy(part).to(device) for part in _batch(size, batch_size))
    undecayed = [p for name, p in model.named_parameters() if p.ndim < 2 or "bias" in name]
    decayed = [p for name, p in model.named_parameters() if not (p.ndim < 2 or "bias" in name)]
    groups = [{"params": undecayed, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=5e-8, betas=(0.9, 0.999), eps=1e-8, fused=True)

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = contrastive_loss(*model(images, tokens))
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, np.log(100))
        loss.item()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def peak_memory() -> dict[str, Any]:
        if device.type == "cpu":
            return _peak_of_process()
        return {"of": "peak device memory", "bytes": torch.cuda.max_memory_allocated()}

    return {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}, step, peak_memory


def _peak_of_process() -> dict[str, Any]:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return {"of": "peak resident memory of the process", "bytes": kilobytes * 1024}


def _main() -> None:
    """One turn of the side that the arguments name; prints it as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=("ours", "peer"))
    parser.add_argument("size")
    parser.add_argument("batch_size", type=int)
    parser.add_argument("rematerialise", type=int)
    parser.add_argument("steps", type=int)
    arguments = parser.parse_args()
    answer, sys.stdout = sys.stdout, sys.stderr  # nothing but the answer on stdout
    side = {"ours": _ours, "peer": _peer}[arguments.side]
    ready, step, peak_memory = side(arguments.size, arguments.batch_size, bool(arguments.rematerialise))
    step(), step()  # two warm up: PyTorch's second step is slow as well
    taken = [step() for _ in range(arguments.steps)]
    print(json.dumps((ready, peak_memory(), taken)), file=answer)


if __name__ == "__main__":
    _main()
