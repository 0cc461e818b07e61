"""Looks at the numbers of every step: what is not finite is left out or ends the run, and reaches no checkpoint."""

import math
import os
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils

from clippy_jax.config import Config
from clippy_jax.divergence.diverged_step import DivergedStep, write_diverged_step
from clippy_jax.errors import InputError
from clippy_jax.input_pipeline.pipeline import TrainingInput
from clippy_jax.processes import log_line
from clippy_jax.run.checkpointing import Checkpointer
from clippy_jax.run.ledger import Ledger
from clippy_jax.run.sound_checkpoints import find_not_finite
from clippy_jax.run.workdir import absolute_path

_NAMES = 2  # that a message shows


class FiniteNumbers:
    """Looks at each step's figures and at each state before it is saved. Every process makes the same calls."""

    def __init__(
        self, config: Config, workdir: str, training_input: TrainingInput, checkpointer: Checkpointer, ledger: Ledger
    ):
        self._config = config
        self._with_arrays = config.save_diverged_batch
        self._workdir = workdir
        self._input = training_input
        self._checkpointer = checkpointer
        self._ledger = ledger
        self._noted: list[tuple[int, Mapping[str, jax.Array]]] = []  # steps and figures that are not looked at yet

    def note(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Keeps a step's figures until `read`, and waits for those of the step before: no host runs further ahead."""
        if self._noted:
            jax.block_until_ready(self._noted[-1][1])
        self._noted.append((step, metrics))

    def read(self) -> dict[str, float]:
        """Looks at the figures of all steps noted since the last call, in one transfer; returns the last one's, if any.

        Updates that the steps have left out are counted.

        Raises:
          InputError: a loss or a gradient is not finite, and `config.skip_nonfinite_updates` are left out already.
        """
        noted, self._noted = jax.device_get(self._noted), []
        for step, metrics in noted:
            self._check(step, float(metrics["loss"]), float(metrics["gradient_norm"]))
        return {name: float(value) for name, value in noted[-1][1].items()} if noted else {}

    def _check(self, step: int, loss: float, gradient_norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            return
        what, most = f"loss {loss}, gradient norm {gradient_norm}", self._config.skip_nonfinite_updates
        if self._ledger.updates_left_out < most:
            self._ledger.note_update_left_out(step)
            log_line(f"step {step:,}  {what}: update left out ({self._ledger.updates_left_out} of at most {most})")
            return
        advice = "lower config.schedule.peak_learning_rate or set config.optimizer.gradient_clip_norm"
        raise self._diverged(
            step, f"at step {step}", f"{what}{f', after {most} updates left out' if most else ''}", advice
        )

    def check_state(self, step: int, state: Any) -> None:
        """Raises `InputError` if a state that is about to be saved is not finite: every restart would end there."""
        if not_finite := find_not_finite(state):
            advice = "look at config.optimizer.eps, beta1 and beta2"
            raise self._diverged(step, f"at step {step} or in the steps before", f"{not_finite} is not finite", advice)

    def _diverged(self, step: int, when: str, what: str, advice: str) -> InputError:
        batch = self._write(step, what)
        multihost_utils.sync_global_devices("the batch is written")
        return InputError(
            f"training diverged {when}: {what}; {batch}the newest checkpoint in {self._workdir} is from before; "
            f"{advice}"
        )

    def _write(self, step: int, what: str) -> str:
        """Writes the file, on the first process; what the message says of it."""
        if jax.process_index() != 0:
            return ""
        path = epath.Path(self._workdir) / "diverged" / f"{step}.safetensors"
        try:
            batch, names = self._input.whole_batch(step - 1)
            workdir = os.fspath(absolute_path(self._workdir))
            diverged = DivergedStep(step, what, workdir, self._config, names, batch if self._with_arrays else None)
            more = {
                "checkpoint": self._checkpointer.latest_step(),
                "devices": jax.device_count(),
                "processes": jax.process_count(),
                "jax": jax.__version__,
            }
            write_diverged_step(path, diverged, more)
        except (InputError, OSError, MemoryError) as error:  # which shall not hide that the run diverged
            return f"its batch could not be written ({error}); "
        shown = ", ".join(names[:_NAMES]) + f" and {len(names) - _NAMES:,} more" * (len(names) > _NAMES)
        return f"its batch ({shown}) is in {path}, for python -m clippy_jax.replay; "
