"""Saving the train state while training goes on, and restoring it onto any mesh.

A run's checkpoints lie in `WORKDIR/checkpoints/STEP/`. Orbax writes each under a temporary name, in the background,
and renames it when it is complete, so a half-written one is neither listed nor read. One that was damaged later (a file
is cut short or lost, a bit has turned over: `sound_checkpoints.py`) is passed over, and the newest sound one serves.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint.experimental.v1.options import ArrayOptions

from clippy_jax.config import CheckpointConfig
from clippy_jax.errors import InputError
from clippy_jax.processes import gather_texts, log_line
from clippy_jax.run import sound_checkpoints, storage_faults
from clippy_jax.run.checkpoint_fit import check_fits
from clippy_jax.run.workdir import absolute_path

_SMALLEST_SLICE = 2**20  # bytes
# Orbax counts by the clock of the day, and a clock that is set anew in the middle of a save would end it. So a save may
# take any time, and makes its folders first: other threads would wait for that by a clock that cannot be chosen.
_ANY_TIME = ocp.options.AsyncOptions(timeout_secs=5 * 10**9, create_directories_asynchronously=False)


class Checkpointer:
    """Saves by steps and by the clock, keeps what the configuration says, restores the newest complete checkpoint.

    Every process of a run calls every method, at the same steps. Use it as a context manager: leaving it waits for
    the save in progress, also when an exception ends the training.

    Args:
      workdir: the run's folder, local or remote (`gs://...`).
      config: when to save and what to keep.
      clock_every_steps: the clock is looked at only at multiples of so many steps. There the first process decides and
        tells the others, which waits for the device, so this should be a step at which the loop waits anyway.
      clock: seconds, from any origin.
      read_before: change nothing in the folder, and only look at checkpoints of steps before this one.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        config: CheckpointConfig,
        clock_every_steps: int,
        clock: Callable[[], float] = time.monotonic,
        read_before: int | None = None,
    ):
        self._config = config
        self._clock_every_steps = clock_every_steps
        self._clock = clock
        self._last_save_time = clock()
        self._last_saved: int | None = None  # unless something has failed since
        storage_faults.keep_quiet()
        self._read_before = read_before
        if read_before is not None:
            self._manager = _open(workdir, read_only=True)
            return
        policies = [ocp.checkpoint_managers.LatestN(config.keep)]
        if config.keep_every_steps:
            policies.append(ocp.checkpoint_managers.EveryNSteps(config.keep_every_steps))
        self._manager = _open(
            workdir,
            preservation_policy=ocp.checkpoint_managers.AnyPreservationPolicy(policies),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, complete or just being written by this run; None if there is none."""
        return max(self._steps(), default=None)

    def is_due(self, step: int) -> bool:
        """Whether the configuration says to save after `step` steps."""
        every = self._config.every_steps
        return (every > 0 and step % every == 0) or self._due_by_clock(step)

    def save(self, step: int, state: Any) -> bool:
        """Saves, unless this step is saved already (then returns False).

        Returns when the arrays are copied off the device: `state` may be donated to the next step. Writing goes on in
        the background; an error there is raised by the next call.

        Raises:
          InputError: this checkpoint or the one before cannot be written.
        """
        if step in self._manager.all_steps():
            return False
        folder = self._manager.directory
        self._last_saved = None
        with storage_faults.telling(folder, None):
            self._manager.wait_until_finished()
        storage_faults.check_room(folder, step, state)
        with storage_faults.telling(folder, step):
            self._manager.save(
                step,
                args=ocp.args.Composite(**{sound_checkpoints.ITEM: ocp.args.PyTreeSave(state)}),
                force=True,
                custom_metadata=sound_checkpoints.metadata(state),
            )
        self._last_save_time, self._last_saved = self._clock(), step
        return True

    def restore(self, abstract_state: Any) -> Any:
        """Reads the newest sound checkpoint onto the devices that `abstract_state` names.

        The first process looks at it beforehand, and all go by its verdict. Damaged checkpoints that are newer than the
        one restored are renamed to `STEP.damaged`.

        Args:
          abstract_state: the train state with a `jax.ShapeDtypeStruct` that has a sharding in place of every array.
            The shardings need not be those of the run that saved.

        Raises:
          InputError: there is no checkpoint, all are damaged, it is of another model or optimizer, or going on from
            it would lose more than `config.checkpoint.max_steps_lost` steps.
        """
        self._manager.wait_until_finished()
        folder = self._manager.directory
        damaged: dict[int, str] = {}
        for candidate in _candidates(folder, self._steps()):
            path = folder / str(candidate)
            own = sound_checkpoints.damage(path, abstract_state) if jax.process_index() == 0 else ""
            damage = gather_texts(own)[0]
            if not damage:
                saved = self._manager.item_metadata(candidate)[sound_checkpoints.ITEM].tree
                check_fits(path, saved, abstract_state)
                state, damage = self._read(candidate, abstract_state)
            if not damage:
                self._set_aside(damaged, candidate)
                return state
            damaged[candidate] = damage
        raise _all_damaged(folder, damaged)

    def _read(self, step: int, abstract_state: Any) -> tuple[Any, str]:
        """The state, and how the checkpoint is damaged if that shows only now; all processes agree on that."""
        arguments = ocp.args.PyTreeRestore(
            abstract_state, restore_args=ocp.checkpoint_utils.construct_restore_args(abstract_state)
        )
        state, damage = None, ""
        try:
            composite = ocp.args.Composite(**{sound_checkpoints.ITEM: arguments})
            state = self._manager.restore(step, args=composite)[sound_checkpoints.ITEM]
        except Exception as error:  # Orbax, TensorStore and the file system each raise their own kinds
            damage = sound_checkpoints.reason(error)
        somewhere = multihost_utils.process_allgather(np.array(bool(damage))).any()
        return state, damage or ("another process cannot read it" if somewhere else "")

    def _set_aside(self, damaged: Mapping[int, str], sound: int) -> None:
        """Renames damaged checkpoints, so that their steps can be saved again, and says so."""
        lost, bound = max(damaged, default=sound) - sound, self._config.max_steps_lost
        if bound and lost > bound:
            newest = self._manager.directory / str(max(damaged))
            raise InputError(
                f"{newest} is damaged ({damaged[max(damaged)]}); going on after step {sound} would lose {lost} steps, "
                f"more than config.checkpoint.max_steps_lost={bound}; copy a sound one there or allow more"
            )
        for step, damage in damaged.items():
            folder = self._manager.directory / str(step)
            if self._read_before is not None:
                log_line(f"{folder} is damaged ({damage}); using step {sound} instead")
                continue
            name = f"{step}.damaged"
            if jax.process_index() == 0:
                while folder.with_name(name).exists():  # it was damaged before, and saved again
                    name += ".damaged"
                folder.rename(folder.with_name(name))
            log_line(f"{folder} is damaged ({damage}), set aside as {name}; continuing after step {sound}")
        if damaged and self._read_before is None:
            multihost_utils.sync_global_devices("damaged checkpoints are set aside")
            self._manager.reload()

    def close(self) -> None:
        """Waits until everything is written; raises `InputError` where it cannot be, or is gone already."""
        folder = self._manager.directory
        with storage_faults.telling(folder, None):
            self._manager.wait_until_finished()
            self._manager.close()
            if self._last_saved is not None and jax.process_index() == 0:
                (folder / str(self._last_saved)).stat()

    def _steps(self) -> list[int]:
        before = math.inf if self._read_before is None else self._read_before
        return [step for step in self._manager.all_steps() if step < before]

    def _due_by_clock(self, step: int) -> bool:
        if not self._config.every_minutes or step % self._clock_every_steps:
            return False
        due = self._clock() - self._last_save_time >= 60 * self._config.every_minutes
        return bool(multihost_utils.broadcast_one_to_all(np.int32(due)))


def restore_arrays(workdir: epath.PathLike, parts: Sequence[str], step: int | None = None) -> tuple[Any, ...]:
    """Reads parts of a train state into the host's memory; knows nothing of the model or the optimizer.

    Args:
      workdir: the run's folder, in which nothing is changed.
      parts: fields of `TrainState`, for example "params"; all come from one and the same checkpoint.
      step: which checkpoint; the newest sound one by default.

    Returns:
      For each part its numpy arrays in plain containers.

    Raises:
      InputError: `workdir` has no complete checkpoint (of this step), or only damaged ones.
    """
    folder = absolute_path(workdir) / "checkpoints"
    damaged: dict[int, str] = {}
    for candidate in _candidates(folder, ocp.utils.checkpoint_steps(folder) if folder.is_dir() else [], step):
        try:
            restored = sound_checkpoints.read(folder / str(candidate), parts)
        except sound_checkpoints.Damaged as damage:
            damaged[candidate] = str(damage)
            continue
        for newer, damage in damaged.items():
            log_line(f"{folder / str(newer)} is damaged ({damage}); using step {candidate} instead")
        return tuple(restored[part] for part in parts)
    raise _all_damaged(folder, damaged)


def _open(workdir: epath.PathLike, **options) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        absolute_path(workdir) / "checkpoints",
        options=ocp.CheckpointManagerOptions(async_options=_ANY_TIME, **options),
        item_names=(sound_checkpoints.ITEM,),
        item_handlers={sound_checkpoints.ITEM: ocp.PyTreeCheckpointHandler(type_handler_registry=_type_handlers())},
    )


def _type_handlers() -> Any:
    """Orbax's own, but small arrays are written by one device: to slice them costs a compiled program each."""
    handlers = {kind: ocp.type_handlers.get_type_handler(kind) for kind in ocp.type_handlers.supported_types()}
    handlers[jax.Array] = ocp.type_handlers.ArrayHandler(
        min_slice_bytes_for_replica_parallel=_SMALLEST_SLICE,
        array_metadata_store=ArrayOptions.Saving().array_metadata_store,
    )
    return ocp.type_handlers.create_type_handler_registry(*handlers.items())


def _candidates(folder: epath.Path, steps: Sequence[int], step: int | None = None) -> list[int]:
    """The steps to try, the newest first; or the one asked for."""
    if not steps:
        raise InputError(f"{folder} has no complete checkpoint")
    if step is not None and step not in steps:
        raise InputError(f"{folder} has no checkpoint of step {step}; there are {sorted(steps)}")
    return sorted(steps, reverse=True) if step is None else [step]


def _all_damaged(folder: epath.Path, damaged: Mapping[int, str]) -> InputError:
    (step, damage), *others = damaged.items()
    more = f", and so are those of {', '.join(str(other) for other, _ in others)}" if others else ""
    return InputError(
        f"{folder / str(step)} is damaged ({damage}){more}; copy a sound one there or use another --workdir"
    )
