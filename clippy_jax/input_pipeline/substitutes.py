"""Another sample in the place of one that cannot be used."""

import collections
import threading
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from clippy_jax.datasets import patterns
from clippy_jax.datasets.sample import BadSample
from clippy_jax.errors import InputError

_ATTEMPTS = 100  # for one slot before giving up

T = TypeVar("T")


class Substitutes:
    """Replaces bad samples by others that follow from the seed, the step and the slot, and counts them. Thread-safe."""

    def __init__(self, data: str, num_samples: int, seed: int):
        self._data = data  # what the message calls it
        self._num_samples = num_samples
        self._seed = seed
        self._skipped: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()

    @property
    def skipped(self) -> dict[str, int]:
        """Bad samples met and replaced so far, by cause."""
        with self._lock:
            return dict(self._skipped)

    def load(self, load: Callable[[int], T], index: int, step: int, slot: int) -> T:
        """What `load` makes of sample `index`, or of the first substitute that is good.

        Args:
          load: raises `BadSample`, or `MemoryError` for a sample too large to hold.
          slot: the sample's place in the global batch of the step.

        Raises:
          InputError: no good sample is found.
        """
        for attempt in range(_ATTEMPTS):
            try:
                return load(index)
            except (BadSample, MemoryError) as bad:
                with self._lock:
                    self._skipped[bad.cause if isinstance(bad, BadSample) else "too large"] += 1
            index = int(np.random.default_rng((self._seed, step, slot, attempt)).integers(self._num_samples))
        raise InputError(
            f"{patterns.KEY}: {_ATTEMPTS} samples of {self._data!r} in a row are bad ({', '.join(self.skipped)}); "
            "check the files"
        )
