"""Saving the train state while training goes on, and restoring it onto any mesh.

A run's checkpoints lie in `WORKDIR/checkpoints/STEP/`. Orbax writes each under a temporary name, in the background,
and renames it when it is complete: whatever bears a step's number can be restored, and a half-written one is neither
listed nor read.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from clippy_jax.config import CheckpointConfig
from clippy_jax.errors import InputError

_ITEM = "state"  # the name of the one thing in a checkpoint's folder
_SHOWN_MISMATCHES = 3


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
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        config: CheckpointConfig,
        clock_every_steps: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._config = config
        self._clock_every_steps = clock_every_steps
        self._clock = clock
        self._last_save_time = clock()
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
        return self._manager.latest_step()

    def is_due(self, step: int) -> bool:
        """Whether to save after `step` steps: the configuration says so, or the scheduler takes the machine soon."""
        return self._due_by_steps(step) or self._manager.reached_preemption(step) or self._due_by_clock(step)

    def save(self, step: int, state: Any) -> bool:
        """Saves, unless this step is saved already (then returns False).

        Returns when the arrays are copied off the device: `state` may be donated to the next step. Writing goes on in
        the background; an error there is raised by the next call.
        """
        if step in self._manager.all_steps():
            return False
        self._manager.save(step, args=ocp.args.Composite(**{_ITEM: ocp.args.PyTreeSave(state)}), force=True)
        self._last_save_time = self._clock()
        return True

    def restore(self, abstract_state: Any, step: int | None = None) -> Any:
        """Reads a checkpoint onto the devices that `abstract_state` names.

        Args:
          abstract_state: the train state with a `jax.ShapeDtypeStruct` that has a sharding in place of every array.
            The shardings need not be those of the run that saved.
          step: which checkpoint; the newest by default.

        Raises:
          InputError: there is no such checkpoint, or it is of another model or optimizer.
        """
        self._manager.wait_until_finished()
        step = _find_step(self._manager, step)
        _check_fits(self._manager, step, abstract_state)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                **{
                    _ITEM: ocp.args.PyTreeRestore(
                        abstract_state, restore_args=ocp.checkpoint_utils.construct_restore_args(abstract_state)
                    )
                }
            ),
        )
        return restored[_ITEM]

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _due_by_steps(self, step: int) -> bool:
        return bool(self._config.every_steps) and step % self._config.every_steps == 0

    def _due_by_clock(self, step: int) -> bool:
        if not self._config.every_minutes or step % self._clock_every_steps:
            return False
        due = self._clock() - self._last_save_time >= 60 * self._config.every_minutes
        return bool(multihost_utils.broadcast_one_to_all(np.int32(due)))


def restore_arrays(workdir: epath.PathLike, parts: Sequence[str], step: int | None = None) -> tuple[Any, ...]:
    """Reads parts of a train state into the host's memory; knows nothing of the model or the optimizer.

    Args:
      workdir: the run's folder.
      parts: fields of `TrainState`, for example "params"; all come from one and the same checkpoint.
      step: which checkpoint; the newest by default.

    Returns:
      For each part its numpy arrays in plain containers.

    Raises:
      InputError: `workdir` has no complete checkpoint (of this step).
    """
    with _open(workdir, create=False) as manager:
        step = _find_step(manager, step)
        tree = manager.item_metadata(step)[_ITEM].tree
        wanted = {part: tree[part] for part in parts}
        as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        restore = ocp.args.PyTreeRestore(wanted, restore_args=as_arrays, partial_restore=True)
        restored = manager.restore(step, args=ocp.args.Composite(**{_ITEM: restore}))[_ITEM]
        return tuple(restored[part] for part in parts)


def _open(workdir: epath.PathLike, **options) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        epath.Path(workdir).absolute() / "checkpoints",
        options=ocp.CheckpointManagerOptions(**options),
        item_names=(_ITEM,),
        item_handlers={_ITEM: ocp.PyTreeCheckpointHandler()},
    )


def _find_step(manager: ocp.CheckpointManager, step: int | None) -> int:
    steps = manager.all_steps()
    if not steps:
        raise InputError(f"{manager.directory} has no complete checkpoint")
    if step is not None and step not in steps:
        raise InputError(f"{manager.directory} has no checkpoint of step {step}; there are {sorted(steps)}")
    return max(steps) if step is None else step


def _check_fits(manager: ocp.CheckpointManager, step: int, abstract_state: Any) -> None:
    saved = _describe(manager.item_metadata(step)[_ITEM].tree)
    wanted = _describe(jax.tree.map(_as_stored, abstract_state))
    mismatches = [
        f"{name} is {saved[name]} there and {wanted[name]} here"
        for name in wanted
        if name in saved and saved[name] != wanted[name]
    ]
    mismatches += [f"{name} is only there" for name in saved if name not in wanted]
    mismatches += [f"{name} is only here" for name in wanted if name not in saved]
    if not mismatches:
        return
    mismatches.sort(key=lambda mismatch: not mismatch.startswith("params/"))
    what = "model" if mismatches[0].startswith("params/") else "optimizer"
    shown = ", ".join(mismatches[:_SHOWN_MISMATCHES])
    if len(mismatches) > _SHOWN_MISMATCHES:
        shown += f", and {len(mismatches) - _SHOWN_MISMATCHES} more"
    raise InputError(
        f"{manager.directory / str(step)} is of another {what}: {shown}; "
        "use another --workdir or the configuration that it was made with"
    )


def _as_stored(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Typed random keys are stored as their integers."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.eval_shape(jax.random.key_data, leaf)
    return leaf


def _describe(tree: Any) -> dict[str, str]:
    """Path → "dtype[shape]" of every array in a tree of things with a shape and a dtype."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }
