"""What the device itself can do, by JAX and by PyTorch: large matrix products at each precision, batches sent to it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tools.benchmarks import sides
from tools.benchmarks.progress import Progress
from tools.benchmarks.report import Case, Report

SIZES = {"b16": (256, None), "tiny": (2, 128)}  # images of a batch; side of the matrices, None for the benchmarks' own
PRECISIONS = ("bfloat16", "tensorfloat32", "float32")


def measure(size: str, peers: Sequence[str]) -> Report:
    """The rates of both sides; of the peers, "eager" is enough."""
    from clippy_jax.training.device_rates import data_sheet_rate  # with JAX, which PyTorch's process does without

    progress = Progress(1 + len(peers))
    measured = sides.take_turns(__name__, ("ours", *peers), {"size": size}, 1, 1, size, progress)
    ours, others = measured["ours"].facts, [measured[peer].facts for peer in peers]
    cases = []
    for name, rate in ours["rates"].items():
        unit = "GB/s" if "batch" in name else "TFLOP/s"
        peer = max((other["rates"][name] for other in others if name in other["rates"]), default=None)
        cases.append(Case(f"{name}, {size}", rate, peer, unit))
        promised = None if "batch" in name else data_sheet_rate(ours["device"], name.split()[-1])
        if promised:
            share = rate * 1e12 / promised, None if peer is None else peer * 1e12 / promised
            cases.append(Case(f"{name}, {size}: share of the data sheet's rate", *share, "of the data sheet's rate"))
    return Report(sides.report_environment(ours["device"]), cases)


def _ours(size: str) -> sides.Side:
    import jax
    from jax.sharding import Mesh

    from clippy_jax.mesh import batch_sharding, shard_batch

    count, side = SIZES[size]
    images, mesh = sides.random_images(count), Mesh(np.array(jax.devices()[:1]), ("data",))
    pinned = batch_sharding(mesh).with_memory_kind("pinned_host")
    rates = {f"product in {name}": sides.jax_matmul_rate(name, side) / 1e12 for name in PRECISIONS}

    def send(way: Any) -> None:
        jax.block_until_ready(shard_batch(images, mesh, way))

    rates["a batch of images to the device"] = images.nbytes / sides.best_seconds(lambda: send(None)) / 1e9
    rates["a batch of images by way of pinned memory"] = images.nbytes / sides.best_seconds(lambda: send(pinned)) / 1e9
    return _side(sides.jax_facts() | {"rates": rates})


def _peer(size: str) -> sides.Side:
    import torch

    count, side = SIZES[size]
    images, rates = torch.from_numpy(sides.random_images(count)), {}
    for name in PRECISIONS:
        device = sides.torch_device(name)
        rates[f"product in {name}"] = sides.torch_matmul_rate(device, name, side) / 1e12

    def send(way: Callable[[torch.Tensor], torch.Tensor]) -> None:
        way(images).to(device, non_blocking=True, copy=True)
        sides.torch_wait(device)

    rates["a batch of images to the device"] = images.nbytes / sides.best_seconds(lambda: send(lambda x: x)) / 1e9
    if device.type == "cuda":
        name = "a batch of images by way of pinned memory"
        rates[name] = images.nbytes / sides.best_seconds(lambda: send(torch.Tensor.pin_memory)) / 1e9
    return _side(sides.torch_facts(device) | {"rates": rates})


def _side(facts: dict[str, Any]) -> sides.Side:
    """All is measured already."""
    return sides.Side(facts, lambda i: None, lambda: 0, lambda: 0.0)


if __name__ == "__main__":
    sides.serve({"ours": _ours, "eager": _peer})
