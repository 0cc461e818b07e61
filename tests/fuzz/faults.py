"""Reads damaged inputs and says what is wrong with what came of it."""

import contextlib
import io
import pathlib
import resource
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from clippy_jax.datasets.sample import BadSample, StorageAway
from clippy_jax.errors import InputError

SECONDS = 2.0  # that one input may take
MEGABYTES = 300  # and by which it may raise the largest memory use of the process


class Target(NamedTuple):
    """A reader, and what makes damaged inputs for it.

    `make` gets a generator of random numbers and a folder to work in, which the inputs of a target share; `read` gets
    what it made. Success and `InputError` in one line are right, and where samples are read `BadSample` and
    `StorageAway`; any other exception is a fault.
    """

    name: str
    make: Callable[[np.random.Generator, pathlib.Path], Any]
    read: Callable[[Any, pathlib.Path], object]


def faults(target: Target, seeds: range, folder: pathlib.Path) -> Iterator[str]:
    """Reads what a target makes of each seed and yields what is wrong: a raw exception, too much time or memory."""
    warm_up = True
    for seed in seeds:
        made = target.make(np.random.default_rng(seed), folder)
        start, memory = time.monotonic(), _largest_memory()
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()), _interrupted():
                target.read(made, folder)
        except (InputError, BadSample, StorageAway) as error:
            if "\n" in str(error):
                yield f"{target.name} {seed}: more than a line: {error}"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            yield f"{target.name} {seed}: {type(error).__name__}: {str(error)[:300]}"
        # The first of all may import modules and compile programs.
        if not warm_up and time.monotonic() - start > SECONDS:
            yield f"{target.name} {seed}: {time.monotonic() - start:.1f} s"
        if not warm_up and _largest_memory() - memory > MEGABYTES:
            yield f"{target.name} {seed}: {_largest_memory() - memory} MB"
        warm_up = False


@contextlib.contextmanager
def _interrupted() -> Iterator[None]:
    """Ends what hangs."""

    def end(*_):
        raise TimeoutError("did not end")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(30)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _largest_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
