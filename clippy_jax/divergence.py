"""Numbers that are not finite: the update is left out, or the run stops and says in which batch it happened.

The batch is written to `WORKDIR/diverged/STEP.safetensors`, one file with nothing in it that could run: in its
metadata, as JSON, the step, the figures, the samples, the configuration and the newest checkpoint from before; with
`config.save_diverged_batch` the images and tokens too. `clippy_jax.replay` makes the step again.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from clippy_jax.config import Config, parse
from clippy_jax.errors import InputError
from clippy_jax.input_pipeline.pipeline import Batch, TrainingInput
from clippy_jax.processes import log_line
from clippy_jax.run.checkpointing import Checkpointer
from clippy_jax.run.ledger import Ledger
from clippy_jax.run.sound_checkpoints import find_not_finite
from clippy_jax.weights.safetensors_file import read_safetensors, write_safetensors
from clippy_jax.whole_files import complete_or_nothing

_KEY = "clippy_jax.diverged"
_NAMES = 2  # that a message shows


@dataclasses.dataclass(frozen=True)
class DivergedStep:
    """What the file tells.

    Attributes:
      step: the step that was not finite, from 1.
      what: how that showed.
      workdir: of the run.
      config: of the run.
      samples: where the samples of the batch lie, row by row.
      batch: its images and tokens, if they were saved.
    """

    step: int
    what: str
    workdir: str
    config: Config
    samples: list[str]
    batch: Batch | None


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
        self._checked = 0  # the last step that was looked at

    def check(self, step: int, metrics: Mapping[str, jax.Array] | None) -> None:
        """Waits for a step's figures, unless it has been looked at already.

        An update that the step has left out is counted.

        Raises:
          InputError: the loss or the gradient is not finite, and `config.skip_nonfinite_updates` are left out already.
        """
        if metrics is None or step == self._checked:
            return
        self._checked = step
        loss, gradient_norm = float(metrics["loss"]), float(metrics["gradient_norm"])
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
            values = {
                "step": step,
                "what": what,
                "workdir": os.fspath(epath.Path(self._workdir).absolute()),
                "checkpoint": self._checkpointer.latest_step(),
                "devices": jax.device_count(),
                "processes": jax.process_count(),
                "versions": {"jax": jax.__version__},
                "samples": names,
                "config": dataclasses.asdict(self._config),
            }
            arrays = batch._asdict() if self._with_arrays else {"step": np.int64(step)}
            with complete_or_nothing(path, force=True) as temporary:
                write_safetensors(temporary, arrays, {_KEY: json.dumps(values)})
        except (InputError, OSError, MemoryError) as error:  # which shall not hide that the run diverged
            return f"its batch could not be written ({error}); "
        shown = ", ".join(names[:_NAMES]) + f" and {len(names) - _NAMES:,} more" * (len(names) > _NAMES)
        return f"its batch ({shown}) is in {path}, for python -m clippy_jax.replay; "


def read_diverged_step(path: str) -> DivergedStep:
    """Reads a file that `FiniteNumbers` wrote; raises `InputError` if it is missing, damaged or another."""
    arrays, metadata = read_safetensors(path)
    try:
        values = json.loads(metadata[_KEY])
        config = parse(values["config"])
        batch = Batch(arrays["images"], arrays["tokens"]) if "images" in arrays else None
        step, names = int(values["step"]), [str(name) for name in values["samples"]]
        return DivergedStep(step, str(values["what"]), str(values["workdir"]), config, names, batch)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(
            f"{path} was not written by a run that diverged; give WORKDIR/diverged/STEP.safetensors"
        ) from None
