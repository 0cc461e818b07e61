"""The engine of the input, of training and evaluation alike: a `tf.data.Dataset` of batches that a function makes.

Element k is what the function makes of k, so a dataset starts anywhere without reading what comes before, and there is
no iterator state to save. The function makes several rows a call, in TensorFlow's threads: it is NumPy and native code
that releases Python's global lock, which TensorFlow's own image operations do not outrun.
"""

import atexit
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped, UInt8

from clippy_jax.datasets.open_files import wait_for_storage
from clippy_jax.host_tensorflow import import_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf

_ROWS = 64  # that one call makes: enough for its overhead to vanish, and a batch of so many needs no joining
_NO_END = 2**62
_ALIGNMENT = 64  # bytes
PATIENCE = 300.0  # seconds that storage may be away

Rows = tuple[Shaped[np.ndarray, "rows ..."], ...]


def empty_bytes(shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
    """As `np.empty`, at an address from which TensorFlow takes an array over without a copy."""
    size = math.prod(shape)
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size].reshape(shape)


class ParallelBatches:
    """Batches `first`, `first` + 1, ... in order, each made in parallel and ahead of time.

    Iterating yields them as NumPy arrays, and raises what `make` raised. It leaves no thread behind, however it ends.
    Where `make` raises `StorageAway` it is called again, after growing pauses, for `PATIENCE` seconds: what a batch
    holds does not depend on how often.

    Attributes:
      dataset: the same as a `tf.data.Dataset`, for which an error in `make` is a `tf.errors.UnknownError`.
    """

    def __init__(
        self, make: Callable[[int, slice], Rows], first: int, end: int | None, batch_size: int, row: Any
    ) -> None:
        """Makes nothing yet.

        Args:
          make: makes some rows of a batch, from the batch's number and which rows; called from several threads.
          end: the batch before which they end; None for never.
          row: a structure of `tf.TensorSpec`, as a batch's arrays without their first axis.
        """
        tf = import_tensorflow()
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        calls = -(-batch_size // _ROWS)  # for each batch
        specs = tf.nest.flatten(row)
        self._calls = made_by = _Calls(make, batch_size, calls)

        @tf.autograph.experimental.do_not_convert  # it would write files and has nothing to convert
        def rows(number: "tf.Tensor") -> Any:
            made = tf.numpy_function(made_by.call, [number], [spec.dtype for spec in specs])
            return tf.nest.pack_sequence_as(
                row, [tf.ensure_shape(array, (None, *spec.shape)) for array, spec in zip(made, specs)]
            )

        options = tf.data.Options()
        options.deterministic = True
        options.autotune.enabled = False
        options.threading.private_threadpool_size = workers
        self.dataset: tf.data.Dataset = (
            tf.data.Dataset.range(first * calls, _NO_END if end is None else end * calls)
            .map(rows, num_parallel_calls=2 * workers)
            .rebatch(batch_size, drop_remainder=True)
            .prefetch(max(2, -(-2 * workers // calls)))
            .with_options(options)
        )
        # TensorFlow keeps a dataset's functions for ever; the open files behind this one shall not stay with them.
        weakref.finalize(self.dataset, made_by.forget)

    def __iter__(self) -> Iterator[Any]:
        running = [self.dataset.as_numpy_iterator()]

        def stop() -> None:
            self._calls.ended.set()
            running.clear()

        self._calls.ended.clear()
        atexit.register(stop)  # a call that begins while Python shuts down would abort the program
        try:
            while running:
                yield next(running[0])
        except StopIteration:
            return
        except import_tensorflow().errors.OpError:
            if not self._calls.errors:
                raise
            raise self._calls.errors[min(self._calls.errors)] from None  # later calls may have failed before
        finally:
            stop()
            atexit.unregister(stop)


class _Calls:
    """The calls of a function that makes rows, each with its number; storage that is away is waited for.

    Attributes:
      errors: what was raised, by number of the call.
      ended: set when nobody wants rows any more.
    """

    def __init__(self, make: Callable[[int, slice], Rows], batch_size: int, calls_per_batch: int):
        self._make: Callable[[int, slice], Rows] | None = make
        self._batch_size = batch_size
        self._calls_per_batch = calls_per_batch
        self.errors: dict[int, Exception] = {}
        self.ended = threading.Event()

    def call(self, number: np.int64) -> Rows:
        """Makes some rows of a batch."""
        batch, part = divmod(int(number), self._calls_per_batch)
        try:
            rows = slice(part * _ROWS, min((part + 1) * _ROWS, self._batch_size))
            return wait_for_storage(lambda: self._make(batch, rows), PATIENCE, self.ended)
        except Exception as error:  # TensorFlow would make a long text of it
            self.errors[int(number)] = error
            raise

    def forget(self) -> None:
        """Lets go of the function and all that it holds."""
        self._make = None
