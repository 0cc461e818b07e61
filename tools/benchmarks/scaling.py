"""How a training step scales on paper: what its compiled program sends between 8 to 1,024 devices. Nothing is run.

Each device has the same number of pairs, however many devices there are (weak scaling). The efficiency is the time of a
step on one device over that on many, at its worst: sending overlaps with no computing, and all goes around one ring.
"""

import collections
import concurrent.futures
import itertools
import json
import math
import os
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple

from tools.benchmarks.machines import MACHINES, Machine
from tools.benchmarks.progress import Progress
from tools.benchmarks.report import Case, Report, environment

PACKAGES = ("jax", "jaxlib", "flax", "optax")


class Program(NamedTuple):
    """What is compiled."""

    loss: str
    parameter_sharding: str
    microbatches: int


PROGRAMS = (
    Program("softmax", "replicated", 1),
    Program("softmax", "replicated", 8),
    Program("ring", "replicated", 8),
    Program("ring", "fsdp", 8),
)
# recipe, pairs a device, numbers of devices, programs
SIZES = {"b16": ("b16", 1024, (8, 64, 512, 1024), PROGRAMS), "tiny": ("shapes", 8, (2, 4), PROGRAMS[2:3])}


def measure(size: str, teraflops: float | None = None, link_gigabytes_per_second: float | None = None) -> Report:
    """Compiles all programs for all numbers of devices; with a device and a link of your own beside the known ones."""
    recipe, pairs, counts, programs = SIZES[size]
    machines = MACHINES
    if teraflops is not None:
        link = link_gigabytes_per_second
        machines += (Machine("your machine", teraflops, teraflops, link, math.inf, link),)
    where = environment("cpu, virtual", PACKAGES)
    work = [(recipe, pairs, devices, *program) for program, devices in itertools.product(programs, counts)]
    progress, cases = Progress(len(work)), []
    with concurrent.futures.ThreadPoolExecutor(where["cores"]) as processes:
        found = processes.map(_compile_in_a_process, work)
        for one in work:
            progress.begin("compiling for {2} devices: {3}, {4}, microbatches {5}".format(*one))
            cases += _cases(size, *one[2:], next(found), machines)
    return Report(where, cases)


def _cases(
    size: str,
    devices: int,
    loss: str,
    parameter_sharding: str,
    microbatches: int,
    facts: dict[str, Any],
    machines: tuple[Machine, ...],
) -> list[Case]:
    parts = f"{microbatches} microbatches" if microbatches > 1 else "1 microbatch"
    name = f"{size}, {loss}, {parameter_sharding}, {parts}, {devices} devices"
    sent, tower_flops, loss_flops = facts["sent"], facts["tower_flops"], facts["loss_flops"]
    cases = [
        Case(f"bytes sent a step, {name}", sum(sent.values()) / 1e9, None, "GB a device"),
        *(Case(f"of these {kind}, {name}", part / 1e9, None, "GB a device") for kind, part in sorted(sent.items())),
        Case(f"peak memory, {name}", facts["memory"] / 1e9, None, "GB a device"),
        Case(f"matrix products, {name}", (tower_flops + loss_flops) / 1e12, None, "TFLOP a device"),
    ]
    for machine in machines:
        send = machine.send_seconds(sum(sent.values()), devices)
        # On one device, a pair meets only those of that device.
        alone = machine.compute_seconds(tower_flops, loss_flops / devices)
        together = machine.compute_seconds(tower_flops, loss_flops) + send
        cases += [
            Case(f"time to compute, {name}, {machine.name}", together - send, None, "s on paper"),
            Case(f"time to send, {name}, {machine.name}", send, None, "s on paper"),
            Case(f"weak-scaling efficiency, {name}, {machine.name}", alone / together, None, "of one device's speed"),
        ]
    return cases


def _compile_in_a_process(work: tuple) -> dict[str, Any]:
    """`_facts` of a process of its own, since JAX is told the number of virtual devices when it starts."""
    devices = work[2]
    # The machine code is never run: the cheapest will do, and it changes neither collectives nor memory.
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    finished = subprocess.run(
        [sys.executable, "-m", __name__, json.dumps(work)],
        cwd=pathlib.Path(__file__).parents[2],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(finished.stdout)


def _facts(
    recipe: str, pairs: int, devices: int, loss: str, parameter_sharding: str, microbatches: int
) -> dict[str, Any]:
    """Of one device and step: bytes sent by kind of collective, bytes of memory, FLOPs of the towers and the loss."""
    import importlib

    import jax
    import jax.numpy as jnp

    from clippy_jax.mesh import make_mesh
    from clippy_jax.training.losses.contrastive import contrastive_loss
    from tools.benchmarks.collectives import collectives
    from tools.benchmarks.compiled_step import memory, recipe_config, step_and_arguments
    from tools.benchmarks.matmul_flops import matmul_flops

    choices = {"loss.kind": loss, "parameter_sharding": parameter_sharding, "microbatches": microbatches}
    config = recipe_config(importlib.import_module(f"configs.{recipe}"), pairs * devices, **choices)
    step, arguments = step_and_arguments(config)
    compiled = step.lower(*arguments).compile()
    sent = collections.Counter()
    for one in collectives(compiled.as_text()):
        sent[one.kind] += one.sent

    def loss_of(image, text, scale):
        return contrastive_loss(image, text, {"logit_scale": scale}, config.loss, make_mesh())

    embeddings = jax.ShapeDtypeStruct((pairs * devices, config.model.text.embedding_width), jnp.float32)
    scale = jax.ShapeDtypeStruct((), jnp.float32)
    loss_flops = matmul_flops(jax.grad(loss_of, argnums=(0, 1, 2)), embeddings, embeddings, scale)
    return {
        "sent": sent,
        "memory": memory(compiled)["peak"],
        "tower_flops": (matmul_flops(step, *arguments) - loss_flops) / devices,
        "loss_flops": loss_flops / devices,
    }


if __name__ == "__main__":
    print(json.dumps(_facts(*json.loads(sys.argv[1]))))
