"""Whether a checkpoint still is what was saved, and reading one in a single process.

A checkpoint carries a digest of every array, computed on the devices when it is saved and compared when it is read: no
bit that has turned over passes. Checkpoints of older versions have no digests: they are sound if they can be read.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jaxtyping import Array, Bool, Shaped, UInt32

from clippy_jax.run import storage_faults

ITEM = "state"  # the name of the one thing in a checkpoint's folder
_METADATA = "_CHECKPOINT_METADATA"  # Orbax's file, in which ours lies under "custom_metadata"
_KEY = "digests"
_LONGEST_REASON = 160  # characters
_SEEDS = (1, 2)


class Damaged(Exception):
    """A checkpoint is not what was saved; the message says in a few words how that shows."""


def paths(state: Any) -> list[str]:
    """Names of the arrays, the same for a state and for the plain containers that it is read into."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]


def metadata(state: Any) -> dict[str, dict[str, str]]:
    """What is to be saved beside a state: the digest of each array by its path. Waits for the devices."""
    found = jax.device_get(_digests(jax.tree.leaves(state)))
    return {_KEY: {path: _text(digest) for path, digest in zip(paths(state), found)}}


def find_not_finite(state: Any) -> str:
    """The path of an array that holds NaN or infinity, "" if there is none. Waits for the devices."""
    found = jax.device_get(_are_finite(jax.tree.leaves(state)))
    return next((path for path, finite in zip(paths(state), found) if not finite), "")


def read(folder: epath.Path, parts: Sequence[str]) -> dict[str, Any]:
    """Reads parts of a state into host memory, in this process alone.

    Args:
      folder: of one checkpoint.
      parts: fields of `TrainState`.

    Raises:
      Damaged: something is missing, unreadable or not as it was saved.
    """
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"read by {jax.process_index()}",
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    storage_faults.keep_quiet()
    try:
        saved = json.loads((folder / _METADATA).read_text())["custom_metadata"].get(_KEY)
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
            description = handler.metadata(folder / ITEM)  # the reader would look for more, and warn
            if description is None:
                raise Damaged("what it holds cannot be read")
            tree = description.tree
            wanted = {part: tree[part] for part in parts}
            as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
            restore = ocp.args.PyTreeRestore(wanted, restore_args=as_arrays, partial_restore=True)
            arrays = reader.restore(folder / ITEM, args=restore)
        if saved is not None:
            _compare(arrays, saved)
        return arrays
    except Damaged:
        raise
    except Exception as error:  # Orbax, TensorStore and the file system each raise their own kinds
        raise Damaged(reason(error)) from error


def reason(error: Exception) -> str:
    """An exception on one line, shortened."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_REASON]


def damage(folder: epath.Path, state: Any) -> str:
    """How a checkpoint of a state like this is damaged, "" if it is sound.

    Reads all of it, in this process alone, and one field of the state at a time.
    """
    try:
        for part in dict.fromkeys(path.split("/")[0] for path in paths(state)):
            read(folder, (part,))
    except Damaged as error:
        return str(error)
    return ""


def _compare(arrays: Mapping[str, Any], saved: Mapping[str, str]) -> None:
    for path, leaf in zip(paths(arrays), jax.tree.leaves(arrays)):
        if _text(_digests([leaf])[0]) != saved.get(path):
            raise Damaged(f"{path} is not what was saved")


@jax.jit
def _are_finite(arrays: list[Shaped[Array, "..."]]) -> list[Bool[Array, ""]]:
    numbers = [array if jnp.issubdtype(array.dtype, jnp.inexact) else jnp.zeros(()) for array in arrays]
    return [jnp.isfinite(array).all() for array in numbers]


@jax.jit
def _digests(arrays: list[Shaped[Array, "..."]]) -> list[UInt32[Array, "2"]]:
    """Of each array two sums, modulo 2^32, of hashes of its numbers and their places.

    The sums do not depend on how an array is laid out over devices. A hash is a bijection of the number's bits: if one
    number is another one, the sums are others.
    """
    return [jnp.stack([_sum_of_hashes(array, jnp.uint32(seed)) for seed in _SEEDS]) for array in arrays]


@jax.jit  # traced once for all arrays of one shape
def _sum_of_hashes(array: Shaped[Array, "..."], seed: UInt32[Array, ""]) -> UInt32[Array, ""]:
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    width = min(4, array.dtype.itemsize)
    bits = jax.lax.bitcast_convert_type(array, {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[width])
    place = jnp.broadcast_to(seed, bits.shape)
    for axis, length in enumerate(bits.shape):  # no reshape: it would gather a sharded array
        place = place * jnp.uint32(length) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    return _mixed(bits.astype(jnp.uint32) ^ _mixed(place)).sum(dtype=jnp.uint32)


def _mixed(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """Murmur3's last step: every bit of the result depends on every bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _text(digest: UInt32[Array, "2"]) -> str:
    return "".join(f"{int(part):08x}" for part in digest)
