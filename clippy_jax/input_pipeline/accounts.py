"""What was read for each step: which samples could not be used, and a digest of those that were."""

import dataclasses
import hashlib
import threading

from clippy_jax.datasets.sample import BadCounts, Sample

MODULUS = 2**64
_STEPS_KEPT = 4096  # of a reader who never takes the accounts


@dataclasses.dataclass
class Account:
    """Of one process's part of a step's batch.

    Attributes:
      bad: the samples that were replaced.
      digest: the sum of the rows' digests, modulo 2^64; 0 where none were made. Sums of parts add up to the sum of the
        global batch, however it is divided among processes.
    """

    bad: BadCounts = dataclasses.field(default_factory=BadCounts)
    digest: int = 0


class Accounts:
    """The accounts of the steps made so far and not taken yet. Thread-safe."""

    def __init__(self):
        self._of_step: dict[int, Account] = {}
        self._lock = threading.Lock()

    def add(self, step: int, digest: int, bad: BadCounts) -> None:
        """Adds what some rows of a step tell."""
        with self._lock:
            account = self._of_step.setdefault(step, Account())
            account.digest = (account.digest + digest) % MODULUS
            account.bad.note_all(bad)
            if len(self._of_step) > _STEPS_KEPT:
                del self._of_step[next(iter(self._of_step))]

    def take(self, step: int) -> Account:
        """The account of a step whose batch is made."""
        with self._lock:
            return self._of_step.pop(step, Account())


def row_digest(slot: int, index: int, sample: Sample) -> int:
    """64 bits of the place in the global batch, of the sample's number in the data set and of its bytes."""
    digest = hashlib.blake2b(f"{slot} {index} {len(sample.image)} ".encode(), digest_size=8)
    digest.update(sample.image)
    digest.update(sample.caption.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest(), "big")
