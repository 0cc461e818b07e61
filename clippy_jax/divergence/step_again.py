"""Makes a step again that was not finite, from the newest checkpoint before it, and finds where that begins."""

import dataclasses
import itertools
import pathlib

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from clippy_jax.config import Config
from clippy_jax.divergence.diverged_step import DivergedStep
from clippy_jax.errors import InputError
from clippy_jax.hub import as_path
from clippy_jax.input_pipeline.device_batches import device_batches
from clippy_jax.input_pipeline.pipeline import Batch, TrainingInput
from clippy_jax.mesh import check_batch_size, make_mesh
from clippy_jax.run.checkpointing import Checkpointer
from clippy_jax.run.sound_checkpoints import find_not_finite
from clippy_jax.train import first_state
from clippy_jax.training.state import TrainState
from clippy_jax.training.step import make_loss_gradient, make_train_step


def replay(diverged: DivergedStep, workdir: str, train: str | None = None, at_checkpoint: bool = False) -> None:
    """Prints the loss, the norm of each tower's gradient and what is not finite. Changes nothing in the workdir.

    Args:
      workdir: of the run, wherever it is now.
      train: `config.input.train`, if the data have moved.
      at_checkpoint: give the batch to the checkpoint as it is, instead of making the steps between again.

    Raises:
      InputError: there is no such run, or the data are not those of the step.
    """
    folder = as_path(workdir)
    if not (folder / "tokenizer").is_dir():
        raise InputError(f"{folder} is not the workdir of a run; say where it is by --workdir")
    data = dataclasses.replace(
        diverged.config.input, tokenizer=str(folder / "tokenizer"), train=train or diverged.config.input.train
    )
    config = dataclasses.replace(diverged.config, input=data)
    mesh = make_mesh()
    check_batch_size(data.batch_size, mesh, "config.input.batch_size", config.microbatches, data.texts_per_pack)
    print(f"step {diverged.step:,} of {folder}: {diverged.what}")
    with Checkpointer(folder, config.checkpoint, config.log_every_steps, read_before=diverged.step) as checkpointer:
        state, _ = first_state(config, mesh, checkpointer)
    before = diverged.step - 1
    if int(state.step) < before and not at_checkpoint:
        print(f"making steps {int(state.step) + 1:,} to {before:,} again")
        state = _steps(config, mesh, state, before)
    _examine(config, mesh, state.replace(step=jnp.int32(before)), _batch(diverged, config))


def _steps(config: Config, mesh: Mesh, state: TrainState, last: int) -> TrainState:
    """The state after step `last`, or after the first one that is not finite."""
    first = int(state.step)
    local = TrainingInput(config.input).batches(first, last - first)
    train_step = jax.jit(make_train_step(config, mesh), donate_argnums=0)
    batches = device_batches(local, mesh, config.input.texts_per_pack, config.microbatches)
    for step, batch in enumerate(batches, first + 1):
        state, metrics = train_step(state, *batch)
        if step % config.log_every_steps == 0 or step == last:
            print(f"step {step:,}  loss {float(metrics['loss']):.4f}  gradient norm {metrics['gradient_norm']:.4g}")
        if not_finite := find_not_finite(state):
            print(f"step {step:,} already leaves {not_finite} not finite")
            break
    return state


def _batch(diverged: DivergedStep, config: Config) -> Batch:
    """The batch as it was saved, or from the data, which have to be the same."""
    if diverged.batch is not None:
        return diverged.batch
    batch, names = TrainingInput(config.input).whole_batch(diverged.step - 1)
    for row, (was, now) in enumerate(itertools.zip_longest(diverged.samples, names)):
        if pathlib.PurePath(was or "").name != pathlib.PurePath(now or "").name:
            raise InputError(
                f"--train={config.input.train}: row {row} of the batch was {was} and is {now}; give the same data "
                "(a run with config.save_diverged_batch=True needs none)"
            )
    return batch


def _examine(config: Config, mesh: Mesh, state: TrainState, batch: Batch) -> None:
    """Prints what becomes of a state and a batch."""
    (arrays,) = device_batches([batch], mesh, config.input.texts_per_pack, config.microbatches)
    loss, gradient = jax.jit(make_loss_gradient(config, mesh))(state, *arrays)
    after, _ = jax.jit(make_train_step(config, mesh))(state, *arrays)
    norms = {name: float(optax.tree.norm(part)) for name, part in gradient.items()}
    print(f"loss           {float(loss)}")
    print("gradient norm  " + "  ".join(f"{name} {norm:.6g}" for name, norm in norms.items()))
    found = {"the state before it": state, "its gradient": gradient, "the state after it": after}
    not_finite = {what: path for what, tree in found.items() if (path := find_not_finite(tree))}
    for what, path in not_finite.items():
        print(f"not finite     {what}, first in {path}")
    if not not_finite:
        print("all is finite here: other devices, other versions or other data than those of the run")
