"""Where arrays live: a mesh with one axis, `data`, over all devices of all processes.

The batch is split over it. Parameters and optimizer state are `replicated`, or split too (`fsdp`); the compiler puts in
the collectives that either choice needs.
"""

import contextlib
import ctypes
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from clippy_jax.errors import InputError


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Devices along `data`: those of all processes by default."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Split along the first dimension."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(state: Any, mesh: Mesh, parameters: Literal["replicated", "fsdp"]) -> Any:
    """The sharding of each leaf of a train state (arrays or their shapes).

    `fsdp` splits the largest dimension that the devices divide; of stacked blocks, never the layers, since the scan
    over them needs one whole layer at a time. What no dimension of fits stays replicated.
    """
    if parameters == "replicated":
        return jax.tree.map(lambda _: replicated(mesh), state)

    def split(path, leaf):
        stacked = any(getattr(entry, "key", None) == "blocks" for entry in path)
        dimensions = range(1 if stacked else 0, len(leaf.shape))
        fitting = [d for d in dimensions if leaf.shape[d] % mesh.size == 0 and leaf.shape[d] > 0]
        if not fitting:
            return replicated(mesh)
        largest = max(fitting, key=lambda d: leaf.shape[d])
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, "data"))

    return jax.tree_util.tree_map_with_path(split, state)


def pinned_sharding(mesh: Mesh) -> NamedSharding | None:
    """A batch's sharding in the host's pinned memory, from which GPUs fetch while the host goes on; None elsewhere."""
    device = mesh.local_devices[0]
    has_it = device.platform == "gpu" and any(memory.kind == "pinned_host" for memory in device.addressable_memories())
    return batch_sharding(mesh).with_memory_kind("pinned_host") if has_it else None


def shard_batch(local: Any, mesh: Mesh, pinned: NamedSharding | None = None) -> Any:
    """The global arrays of a batch (an array [B, ...] or a tree of them); each process has a contiguous part of it.

    With `pinned`, by way of there.
    """

    def place(x):
        if pinned is None:
            return jax.make_array_from_process_local_data(batch_sharding(mesh), x)
        return jax.device_put(jax.make_array_from_process_local_data(pinned, x), batch_sharding(mesh))

    return jax.tree.map(place, local)


def place_whole(value: ArrayLike, sharding: NamedSharding) -> jax.Array:
    """The global array of a value that every process has whole; what is on the devices already stays as it is."""
    if isinstance(value, jax.Array):
        return value
    return jax.make_array_from_callback(np.shape(value), sharding, lambda index: value[index])


def move_whole(tree: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
    """A tree of host arrays on the devices, whole on each.

    Empties `tree` and waits for one array after the other, so that no more than one is in the host's memory twice.
    """
    leaves, structure = jax.tree.flatten(tree)
    tree.clear()
    for i in range(len(leaves)):
        leaves[i] = jax.block_until_ready(jax.device_put(leaves[i], replicated(mesh)))
    give_back_memory()
    return jax.tree.unflatten(structure, leaves)


def give_back_memory() -> None:
    """Has the C library return to the system what is free in this process, which it keeps otherwise (glibc alone).

    Compiling and loading leave much in pieces that are too small for what follows.
    """
    with contextlib.suppress(OSError, AttributeError):  # of other libraries
        ctypes.CDLL(None).malloc_trim(0)


def check_batch_size(batch_size: int, mesh: Mesh, key: str, microbatches: int = 1, texts_per_pack: int = 1) -> None:
    """Raises `InputError` if the devices, with microbatches of whole packs of texts each, do not divide the batch.

    `key` names the configuration field or flag of the batch size.
    """
    parts = mesh.size * microbatches * texts_per_pack
    if batch_size < 1:
        raise InputError(f"{key} is {batch_size}; use a multiple of {parts}")
    if batch_size % parts:
        each = f" with {microbatches} microbatches each" if microbatches > 1 else ""
        each += f", in packs of {texts_per_pack} texts," if texts_per_pack > 1 else ""
        raise InputError(
            f"{key} is {batch_size}, which {mesh.size} devices{each} do not divide; use a multiple of {parts}"
        )
