"""Image inference, ours and PyTorch's: uint8 images in, unit patch and image embeddings out."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clippy_jax.config import parse_model
from tools.benchmarks import sides
from tools.benchmarks.progress import Progress
from tools.benchmarks.report import Case, Report
from tools.benchmarks.training_step import Setting, model_config


def measure(
    size: str, batch_sizes: Sequence[int], steps: int, precision: str, peers: Sequence[str], turns: int | None
) -> Report:
    """Times batches of all sides, in so many turns or those of its size; the peers are of `sides.PEERS`."""
    cases, where = [], None
    model = dataclasses.asdict(model_config(size, precision, Setting()))
    turns = turns or sides.TURNS[size]
    progress = Progress(len(batch_sizes) * turns * (1 + len(peers)))
    for batch_size in batch_sizes:
        name = f"{size}, {precision}, batch {batch_size}"
        work = dict(model=model, batch_size=batch_size)
        measured = sides.take_turns(__name__, ("ours", *peers), work, turns, steps, name, progress)
        rates = {side: batch_size / np.array(one.seconds) for side, one in measured.items()}
        median = {side: float(np.median(rate)) for side, rate in rates.items()}
        spread = {side: sides.middle_half(rate) for side, rate in rates.items()}
        ours = measured["ours"]
        flops_of_image = ours.facts["flops"] / batch_size
        matmul_rate = max(one.matmul_rate for one in measured.values())
        where = where or sides.report_environment(ours.facts["device"])
        for peer in peers:
            beside = f"{name}, beside {sides.PEERS[peer]}"
            memory = ours.peak_memory / 1e9, measured[peer].peak_memory / 1e9
            share = (median[side] * flops_of_image / matmul_rate for side in ("ours", peer))
            cases += [
                Case(
                    f"image inference, {beside}", median["ours"], median[peer], "images/s", spread["ours"], spread[peer]
                ),
                Case(f"peak memory, {beside}", *memory, "GB"),
                Case(f"share of the matmul rate, {beside}", *share, "FLOPs/s over the matmul rate"),
            ]
        if not peers:
            cases += [
                Case(f"image inference, {name}", median["ours"], None, "images/s", spread["ours"]),
                Case(f"peak memory, {name}", ours.peak_memory / 1e9, None, "GB"),
            ]
        cases += [
            Case(f"FLOPs of an image, {name}", flops_of_image / 1e9, None, "GFLOP"),
            Case(f"matmul rate, {name}", matmul_rate / 1e12, None, "TFLOP/s"),
        ]
    return Report(where, cases)


def _ours(model: Mapping[str, Any], batch_size: int) -> sides.Side:
    import jax

    from clippy_jax.mesh import make_mesh, move_whole
    from clippy_jax.models.clippy import CLIPpy
    from clippy_jax.training.state import init_params
    from clippy_jax.training.step_work import image_flops

    config = parse_model(model)
    # As `load_model` puts a checkpoint's: to draw all at once on the device would take more memory than inference does.
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: init_params(config, 224, key), jax.random.key(0))
    params = jax.tree.map(lambda x: random.standard_normal(x.shape, np.float32) * np.float32(0.02), shapes)
    params = move_whole(params, make_mesh(jax.devices()[:1]))
    images = jax.device_put(sides.random_images(batch_size))
    patches = (224 // config.image.patch_size) ** 2

    def encode(params, images):
        return CLIPpy(config).apply({"params": params}, images, method="encode_image")

    compiled = jax.jit(encode)
    return sides.Side(
        sides.jax_facts() | {"flops": batch_size * image_flops(config, patches, patches)},
        lambda _: jax.block_until_ready(compiled(params, images)),
        sides.jax_peak_memory,
        lambda: sides.jax_matmul_rate(config.precision),
    )


def _peer(model: Mapping[str, Any], batch_size: int, *, compiled: bool) -> sides.Side:
    import torch

    from tools.benchmarks.torch_clippy import TorchCLIPpy

    config = parse_model(model)
    device = sides.torch_device(config.precision)
    clippy = TorchCLIPpy(config).to(device).eval()
    images = torch.from_numpy(sides.random_images(batch_size)).to(device)
    encode = torch.compile(clippy.encode_image) if compiled else clippy.encode_image

    @torch.no_grad()
    def run(_: int) -> None:
        with sides.torch_autocast(device, config.precision):
            encode(images)
        sides.torch_wait(device)

    return sides.torch_side(device, config.precision, run)


if __name__ == "__main__":
    eager, compiled = (functools.partial(_peer, compiled=choice) for choice in (False, True))
    sides.serve({"ours": _ours, "eager": eager, "compiled": compiled})
