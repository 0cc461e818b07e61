"""Another sample in the place of one that cannot be used."""

import threading
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from clippy_jax.datasets import patterns
from clippy_jax.datasets.sample import BadCounts, BadSample, Source
from clippy_jax.errors import InputError

_ATTEMPTS = 100  # for one slot before giving up
_ENOUGH = 100  # samples after which a fraction says something

T = TypeVar("T")


class Substitutes:
    """Replaces bad samples by others that follow from the seed, the step and the slot, and counts them. Thread-safe."""

    def __init__(self, source: Source, seed: int, max_bad_fraction: float):
        """Counts what is left out of the source already; raises `InputError` if that is more than allowed."""
        self._source = source
        self._seed = seed
        self._max_bad_fraction = max_bad_fraction
        self._skipped = BadCounts()
        self._tried = 0
        self._lock = threading.Lock()
        self._check(source.left_out, len(source) + source.left_out.total(), "in the data")

    @property
    def skipped(self) -> dict[str, int]:
        """Bad samples met and replaced so far, by cause."""
        with self._lock:
            return dict(self._skipped)

    def load(self, load: Callable[[int], T], index: int, step: int, slot: int, bad: BadCounts) -> T:
        """What `load` makes of sample `index`, or of the first substitute that is good.

        Args:
          load: raises `BadSample`, or `MemoryError` for a sample too large to hold.
          slot: the sample's place in the global batch of the step.
          bad: notes those that are replaced; give it to `count` once all rows are made.

        Raises:
          InputError: no good sample is found.
        """
        for attempt in range(_ATTEMPTS):
            try:
                return load(index)
            except (BadSample, MemoryError) as error:
                bad.note(error.cause if isinstance(error, BadSample) else "too large", self._source.name(index))
            index = int(np.random.default_rng((self._seed, step, slot, attempt)).integers(len(self._source)))
        raise InputError(f"{patterns.KEY}: {_ATTEMPTS} samples in a row are bad ({bad}); check the files")

    def count(self, rows: int, bad: BadCounts) -> None:
        """Adds the bad samples met for some good rows; raises `InputError` if there are too many of them by now."""
        with self._lock:
            self._skipped.note_all(bad)
            self._tried += rows + bad.total()
            if bad:
                self._check(self._skipped, max(self._tried, _ENOUGH), "read so far")

    def _check(self, bad: BadCounts, tried: int, where: str) -> None:
        if bad.total() > self._max_bad_fraction * tried:
            raise InputError(
                f"{patterns.KEY}: {bad.total():,} of {tried:,} samples {where} cannot be used, more than "
                f"config.input.max_bad_fraction={self._max_bad_fraction} allows: {bad}; mend the files or allow more"
            )
