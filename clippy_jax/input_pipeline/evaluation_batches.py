"""From a list of images to batches on the mesh: read ahead, padded, each process its own part.

An evaluation plans its batches once, from facts that every process knows (the sorted list of files, their sizes), so
all processes run the same number of equally shaped batches. Of each batch a process reads the rows its devices hold.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Shaped

from clippy_jax.errors import InputError
from clippy_jax.host_tensorflow import import_tensorflow
from clippy_jax.input_pipeline import engine
from clippy_jax.mesh import shard_batch

PADDING = -1
UNREADABLE_SHARE = 0.01
BATCHES_BETWEEN_CHECKS = 32

Sample = tuple[Shaped[np.ndarray, "..."], ...]
Read = Callable[[int], Sample]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Which images one step of an evaluation takes."""

    rows: tuple[int, ...]  # index of the image in each row; PADDING where there is none
    blank: Sample  # a row without an image; a smaller sample is laid over its upper left corner


def split(indices: Sequence[int], batch_size: int, blank: Sample) -> list[Batch]:
    """Batches of `batch_size` rows in order; the last is padded."""
    return [
        Batch((*indices[start : start + batch_size], *[PADDING] * (start + batch_size - len(indices))), blank)
        for start in range(0, len(indices), batch_size)
    ]


class ReadFailures:
    """Which images could not be read, agreed on by all processes.

    A process that stopped alone would leave the others waiting in a collective, so a failure is only noted where it
    happens (its row stays blank and is never counted) and acted upon where all processes meet.

    Attributes:
      unreadable: the images that could not be decoded here.
      refused: the images whose reading raised `InputError` here.
    """

    def __init__(self, names: Sequence[str | pathlib.Path], read: Read):
        self._names = names
        self._read = read
        self.unreadable = np.zeros(len(names), bool)
        self.refused = np.zeros(len(names), bool)

    def agree(self) -> tuple[str, ...]:
        """The images that no process could read so far; all processes must call this together.

        Raises:
          InputError: more than 1 % are unreadable, or one was refused (then with the message it was refused with).
        """
        local = np.stack([self.unreadable, self.refused])
        unreadable, refused = multihost_utils.process_allgather(local).reshape(-1, *local.shape).any(axis=0)
        if refused.any():
            first = int(refused.argmax())
            self._read(first)
            raise InputError(f"{self._names[first]} was refused by another process but not here")
        names = tuple(str(self._names[index]) for index in np.flatnonzero(unreadable))
        if len(names) > UNREADABLE_SHARE * len(self._names):
            raise InputError(
                f"{len(names)} of {len(self._names)} images cannot be read, more than {UNREADABLE_SHARE:.0%}; "
                f"the first is {names[0]}"
            )
        return names


def load(
    batches: Sequence[Batch], read: Read, mesh: Mesh, failures: ReadFailures
) -> Iterator[tuple[Shaped[jax.Array, "B ..."], ...]]:
    """Yields each batch as global arrays, sharded over `data`; the coming ones are read in the background.

    Args:
      batches: the plan, the same in every process, all with as many rows.
      read: returns the arrays of one image; an `OSError` means unreadable, an `InputError` ends the evaluation.
      mesh: the mesh to shard over; its size divides the batch.
      failures: notes what could not be read; it is complete once the last batch has been taken.
    """
    if not batches:
        return

    def read_row(index: int) -> Sample:
        try:
            return () if index == PADDING else read(index)
        except (OSError, MemoryError):
            failures.unreadable[index] = True
        except InputError:
            failures.refused[index] = True
        return ()

    local = _local_rows(len(batches[0].rows), mesh)

    def read_rows(number: int, part: slice) -> Sample:
        batch = batches[number]
        return _stack([read_row(row) for row in batch.rows[local][part]], batch.blank)

    tf = import_tensorflow()
    row = tuple(tf.TensorSpec((None,) * array.ndim, array.dtype) for array in batches[0].blank)
    read_ahead = engine.ParallelBatches(read_rows, 0, len(batches), local.stop - local.start, row)
    for number, arrays in enumerate(read_ahead, start=1):
        yield tuple(shard_batch(array, mesh) for array in arrays)
        if number % BATCHES_BETWEEN_CHECKS == 0 or number == len(batches):
            failures.agree()


def _local_rows(batch_size: int, mesh: Mesh) -> slice:
    """The rows that this process's devices hold: a contiguous part, since the mesh lists devices by process."""
    per_device = batch_size // mesh.size
    local = [
        position for position, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index()
    ]
    return slice(local[0] * per_device, (local[-1] + 1) * per_device)


def _stack(samples: Sequence[Sample], blank: Sample) -> Sample:
    stacked = tuple(np.repeat(value[None], len(samples), axis=0) for value in blank)
    for row, sample in enumerate(samples):
        for array, value in zip(stacked, sample):
            array[(row, *(slice(0, length) for length in value.shape))] = value
    return stacked
