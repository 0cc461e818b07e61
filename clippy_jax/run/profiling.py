"""A device trace of a few chosen steps, for TensorBoard's profiler or Perfetto."""

from collections.abc import Sequence
from typing import Any

import jax
from etils import epath


class Profiler:
    """Writes the trace of steps first to last into `WORKDIR/profile`, from the first process.

    Args:
      workdir: the run's folder.
      steps: (first, last), counted as the loop counts its steps; () for no trace.
    """

    def __init__(self, workdir: epath.PathLike, steps: Sequence[int]):
        self._folder = epath.Path(workdir) / "profile"
        self._first, self._last = steps if jax.process_index() == 0 and steps else (None, None)
        self._running = False

    def before(self, step: int) -> None:
        """Starts the trace if `step`, about to run, is the first to be traced."""
        if step == self._first:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int, outputs: Any) -> None:
        """Ends the trace if `step` is the last to be traced, once the device has computed its `outputs`."""
        if step == self._last and self._running:
            jax.block_until_ready(outputs)
            self.close()

    def close(self) -> None:
        """Ends a trace that is still running because training stopped within it."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
