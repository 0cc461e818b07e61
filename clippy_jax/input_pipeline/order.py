"""Which samples a step sees: a seeded permutation of the whole data set for every epoch."""

import threading

import numpy as np
from jaxtyping import Int32


class Order:
    """The samples of every step, as a function of the seed, the number of samples and the batch size alone.

    Step k is the (k mod steps_per_epoch)-th slice of its epoch's permutation; what remains of the permutation after
    the last whole batch is left out of that epoch, so that no sample comes twice in a batch.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int):
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.steps_per_epoch = num_samples // batch_size
        self._lock = threading.Lock()
        self._permutations: dict[int, Int32[np.ndarray, "num_samples"]] = {}

    def indices(self, step: int) -> Int32[np.ndarray, "B"]:
        """The samples of one step, B = batch_size. Thread-safe."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._permutation(epoch)[position * self.batch_size : (position + 1) * self.batch_size]

    def _permutation(self, epoch: int) -> Int32[np.ndarray, "num_samples"]:
        with self._lock:
            if epoch not in self._permutations:
                # Two at most: around the end of an epoch the steps in flight need both.
                self._permutations = {e: order for e, order in self._permutations.items() if abs(e - epoch) == 1}
                order = np.arange(self.num_samples, dtype=np.int32)
                np.random.default_rng((self.seed, epoch)).shuffle(order)
                self._permutations[epoch] = order
            return self._permutations[epoch]
