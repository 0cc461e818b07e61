"""The memory that a training step needs on each of several devices, from the compiled program: nothing is run."""

import os

# Before jax is imported.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax  # noqa: E402

from configs import b16, shapes  # noqa: E402
from tools.benchmarks.compiled_step import memory, recipe_config, step_and_arguments  # noqa: E402
from tools.benchmarks.progress import Progress  # noqa: E402
from tools.benchmarks.report import Case, Report, environment  # noqa: E402

# recipe, global batch, numbers of microbatches
SIZES = {"b16": (b16, 8192, (1, 4, 8, 16)), "tiny": (shapes, 128, (1, 4))}
PACKAGES = ("jax", "jaxlib", "flax", "optax")


def measure(size: str) -> Report:
    """The memory of a recipe's step over all devices, rematerialised, by the number of microbatches."""
    recipe, batch_size, microbatches = SIZES[size]
    cases = []
    progress = Progress(len(microbatches))
    for count in microbatches:
        progress.begin(f"compiling the step in {count} microbatches")
        step, arguments = step_and_arguments(recipe_config(recipe, batch_size, microbatches=count))
        for part, count_of_bytes in memory(step.lower(*arguments).compile()).items():
            name = f"{part}, {size}, global batch {batch_size}, microbatches {count}, rematerialised"
            cases.append(Case(name, count_of_bytes / 1e9, None, "GB a device"))
    device = jax.devices()[0]
    return Report(environment(f"{jax.device_count()} x {device.device_kind}", PACKAGES), cases)
