"""The sides of a speed benchmark: ours and the PyTorch peers, each in a process of its own.

So the peak memory of each is its own, and each has the machine to itself: a living but idle process of 5 GB slows a
step down on a machine that reclaims idle memory. The sides take turns, so that whatever else the machine does meets all
of them. Needs no more than jax, flax, optax and torch.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tools.benchmarks.progress import Progress
from tools.benchmarks.report import environment

PEERS = {"eager": "PyTorch", "compiled": "torch.compile"}
PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch")
TURNS = {"b16": 2, "tiny": 1}  # of each side, by the size of the model

# Ours takes memory from the system in large pages: a step takes 2 GB anew, in pages of 4 kB half a million of them.
# PyTorch keeps more of what it has; its step takes as long with large pages, or longer, so it goes without.
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class Side(NamedTuple):
    """One side, ready to be timed."""

    facts: dict[str, Any]  # numbers and words for the report; at least "device"
    run: Callable[[int], None]  # does the work once, the i-th time, and waits for its end
    peak_memory: Callable[[], int]  # bytes
    matmul_rate: Callable[[], float]  # FLOP/s


class Measured(NamedTuple):
    """What one side's turns measured."""

    facts: dict[str, Any]
    peak_memory: int
    matmul_rate: float
    seconds: list[float]


def take_turns(
    module: str, sides: Sequence[str], work: Mapping[str, Any], turns: int, steps: int, name: str, progress: Progress
) -> dict[str, Measured]:
    """Times `turns * steps` runs of each side; `module` is the one that calls `serve`, `work` goes to its functions.

    Each turn is a part of the progress, `name` what the work is called there.
    """
    measured: dict[str, Measured] = {}
    for _ in range(turns):
        for side in sides:
            progress.begin(f"{name}: {PEERS.get(side, side)}")
            finished = subprocess.run(
                [sys.executable, "-m", module, side, json.dumps(dict(work)), str(steps)],
                cwd=pathlib.Path(__file__).parents[2],
                env=_environment(side),
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            turn = Measured(*json.loads(finished.stdout))
            before = measured.get(side, turn._replace(seconds=[]))
            measured[side] = Measured(
                turn.facts,
                max(before.peak_memory, turn.peak_memory),
                max(before.matmul_rate, turn.matmul_rate),
                before.seconds + turn.seconds,
            )
    return measured


def report_environment(device: str) -> dict[str, Any]:
    """Where the sides were measured, for the report."""
    return environment(device, PACKAGES) | {f"{name} (ours)": value for name, value in LARGE_PAGES.items()}


def _environment(side: str) -> dict[str, str]:
    """The environment variables of a side."""
    inherited = {name: value for name, value in os.environ.items() if name not in LARGE_PAGES}
    inherited["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # a GPU's memory is for all sides
    return inherited | (LARGE_PAGES if side == "ours" else {})


def serve(sides: Mapping[str, Callable[..., Side]]) -> None:
    """One turn of the side that the command line names; prints a `Measured` as JSON."""
    name, work, steps = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    answer, sys.stdout = sys.stdout, sys.stderr  # nothing but the answer on stdout
    side = sides[name](**work)
    # Every run once beforehand, for texts of every length; at least two: PyTorch's second run is slow as well.
    for i in range(max(2, steps)):
        side.run(i)
    seconds = []
    for i in range(steps):
        start = time.perf_counter()
        side.run(i)
        seconds.append(time.perf_counter() - start)
    memory = side.peak_memory()
    print(json.dumps(Measured(side.facts, memory, side.matmul_rate(), seconds)), file=answer)


def middle_half(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third quartile."""
    return tuple(np.quantile(values, (0.25, 0.75)).tolist())


def random_images(count: int) -> np.ndarray:
    """uint8 [count, 224, 224, 3], the same each time."""
    return np.random.default_rng(0).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)


def jax_facts() -> dict[str, Any]:
    """The device that JAX uses."""
    import jax

    return {"device": jax.devices()[0].device_kind}


def jax_peak_memory() -> int:
    """Of the device; on a CPU, of the process."""
    import jax

    device = jax.devices()[0]
    return peak_of_process() if device.platform == "cpu" else device.memory_stats()["peak_bytes_in_use"]


def jax_matmul_rate(precision: str, side: int | None = None) -> float:
    """FLOP/s of a large square matrix product (of so many rows), the best of a few."""
    import jax
    import jax.numpy as jnp

    from clippy_jax.models.precision import precision_of

    dtype, exactness = precision_of(precision)
    side = side or _matmul_side(jax.devices()[0].platform == "cpu")
    square = jax.random.normal(jax.random.key(0), (side, side), jnp.float32).astype(dtype)
    product = jax.jit(lambda x: jnp.matmul(x, x, precision=exactness))
    return 2 * side**3 / best_seconds(lambda: jax.block_until_ready(product(square)))


def torch_side(device, precision: str, run: Callable[[int], None]) -> Side:
    """A side that PyTorch runs."""
    return Side(
        torch_facts(device),
        run,
        lambda: torch_peak_memory(device),
        lambda: torch_matmul_rate(device, precision),
    )


def torch_facts(device) -> dict[str, Any]:
    """The device that PyTorch uses."""
    import torch

    return {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}


def torch_device(precision: str):
    """The device of the PyTorch sides, set to multiply as `precision` says (bfloat16 by `torch_autocast`)."""
    import torch

    torch.set_float32_matmul_precision("high" if precision == "tensorfloat32" else "highest")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def torch_autocast(device, precision: str):
    """The context in which PyTorch's model runs."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def torch_wait(device) -> None:
    """Until the device has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def torch_peak_memory(device) -> int:
    """Of the device; on a CPU, of the process."""
    import torch

    return torch.cuda.max_memory_allocated() if device.type == "cuda" else peak_of_process()


def torch_matmul_rate(device, precision: str, side: int | None = None) -> float:
    """FLOP/s of a large square matrix product (of so many rows), the best of a few."""
    import torch

    side = side or _matmul_side(device.type == "cpu")
    square = torch.randn(side, side, device=device, dtype=torch.bfloat16 if precision == "bfloat16" else None)

    @torch.no_grad()
    def run():
        square @ square
        torch_wait(device)

    return 2 * side**3 / best_seconds(run)


def _matmul_side(on_cpu: bool) -> int:
    return 2048 if on_cpu else 8192


def best_seconds(run: Callable[[], Any]) -> float:
    """The shortest of a few runs, after two that warm up."""
    run(), run()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def peak_of_process() -> int:
    """Bytes that were resident at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
