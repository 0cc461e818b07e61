"""Training from start to end: config → input → step → state → checkpoints and evaluations.

`train_and_evaluate` and the loop below it read in the order in which things happen. On several machines every process
runs them; what differs between processes (which part of a batch, who writes) is hidden in what they call.
"""

import contextlib
import functools
import math
from collections.abc import Mapping

import jax
from jax.sharding import Mesh

from clippy_jax.config import Config
from clippy_jax.errors import InputError
from clippy_jax.evaluators.periodic import PeriodicEvaluation
from clippy_jax.input_pipeline.device_batches import device_batches
from clippy_jax.input_pipeline.pipeline import TrainingInput
from clippy_jax.mesh import check_batch_size, make_mesh, state_sharding
from clippy_jax.run.checkpointing import Checkpointer
from clippy_jax.run.compilation import StepPrograms
from clippy_jax.run.metrics import MetricWriter, log_line
from clippy_jax.run.overview import config_overview, parameter_overview
from clippy_jax.run.profiling import Profiler
from clippy_jax.run.workdir import prepare_workdir
from clippy_jax.training.optimizer import make_optimizer
from clippy_jax.training.state import TrainState, init_state
from clippy_jax.training.step import make_train_step
from clippy_jax.weights.load import initialise


def train_and_evaluate(config: Config, workdir: str) -> None:
    """Trains until `config.schedule.stop_step`; where `workdir` holds checkpoints, from the newest one on.

    Raises:
      InputError: something in the configuration or in what it points to is wrong (before the first step), or the loss
        is no longer finite (then the newest checkpoint is from before).
    """
    mesh = make_mesh()
    check_batch_size(
        config.input.batch_size, mesh, "config.input.batch_size", config.microbatches, config.input.texts_per_pack
    )
    training_input = TrainingInput(config.input, jax.process_index(), jax.process_count())
    _check_vocabulary(training_input, config)
    evaluation = PeriodicEvaluation(config, training_input.tokenizer, mesh)
    for change in prepare_workdir(workdir, config):
        log_line(f"changed since this run's last start: {change}")
    log_line(config_overview(config))
    left_out = "".join(f", {count:,} left out as {cause}" for cause, count in training_input.left_out.items())
    log_line(f"{training_input.num_samples:,} pairs{left_out}; {training_input.steps_per_epoch:,} steps an epoch")

    with Checkpointer(workdir, config.checkpoint, config.log_every_steps) as checkpointer:
        state, shardings = _first_state(config, mesh, checkpointer)
        train_step = jax.jit(make_train_step(config, mesh), donate_argnums=0, out_shardings=(shardings, None))
        _loop(config, workdir, state, StepPrograms(train_step), training_input, mesh, checkpointer, evaluation)


def _first_state(config: Config, mesh: Mesh, checkpointer: Checkpointer) -> tuple[TrainState, TrainState]:
    """The state to go on from, and its shardings: the newest checkpoint, else given weights, else random ones."""
    optimizer = make_optimizer(config.optimizer, config.schedule)
    new_state = functools.partial(
        init_state, config.model, config.loss, config.input.image_size, optimizer, config.optimizer.freeze
    )
    key = jax.random.key(config.seed)
    shapes = jax.eval_shape(new_state, key)
    shardings = state_sharding(shapes, mesh, config.parameter_sharding)
    log_line(parameter_overview(shapes.params))

    if checkpointer.latest_step() is not None:
        placed = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
        state = checkpointer.restore(placed)
        log_line(f"continuing after step {int(state.step):,}")
        return state, shardings

    state = jax.jit(new_state, out_shardings=shardings)(key)
    init = config.init
    if init.image or init.text or init.clippy:
        params, left = initialise(jax.device_get(state.params), config.model, init.image, init.text, init.clippy)
        for name in left:
            log_line(f"not in the starting weights, left at its initialisation: {name}")
        state = state.replace(params=jax.device_put(params, shardings.params))
    return state, shardings


def _loop(
    config: Config,
    workdir: str,
    state: TrainState,
    programs: StepPrograms,
    training_input: TrainingInput,
    mesh: Mesh,
    checkpointer: Checkpointer,
    evaluation: PeriodicEvaluation,
) -> None:
    first, stop = int(state.step) + 1, config.schedule.stop_step
    with (
        contextlib.closing(training_input.batches(first - 1, max(0, stop + 1 - first))) as local_batches,
        contextlib.closing(MetricWriter(workdir, config, first - 1)) as writer,
        contextlib.closing(Profiler(workdir, config.profile_steps)) as profiler,
    ):
        batches = device_batches(local_batches, mesh, config.input.texts_per_pack, config.microbatches)
        metrics = None
        for step in range(first, stop + 1):
            with writer.waiting_for_data():
                images, texts = next(batches)
            with writer.outside_training():
                train_step = programs.program(state, images, texts)
            profiler.before(step)
            previous, (state, metrics) = metrics, train_step(state, images, texts)
            # Of the step before: asking for this one's numbers would keep the device waiting for the host.
            _check_finite(step - 1, previous, workdir)
            profiler.after(step, metrics)

            if step % config.log_every_steps == 0 or step in (first, stop):
                writer.write(step, metrics, training_input.skipped)
            if step == stop or checkpointer.is_due(step):
                _check_finite(step, metrics, workdir)
                checkpointer.save(step, state)
            with writer.outside_training():
                for name, figures in evaluation.run(step, state.params):
                    writer.write_evaluation(step, name, figures)


def _check_vocabulary(training_input: TrainingInput, config: Config) -> None:
    """Ids beyond the embedding table would silently be read as its last row."""
    ids, rows = training_input.tokenizer.vocabulary_size, config.model.text.vocabulary_size
    if ids > rows:
        raise InputError(
            f"config.model.text.vocabulary_size is {rows}, but the tokenizer in {config.input.tokenizer} has {ids} "
            f"ids; set it to at least {ids}"
        )


def _check_finite(step: int, metrics: Mapping[str, jax.Array] | None, workdir: str) -> None:
    """A finite loss with a finite gradient makes a finite update; anything else must never reach a checkpoint."""
    if metrics is None:
        return
    loss, gradient_norm = float(metrics["loss"]), float(metrics["gradient_norm"])
    if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
        raise InputError(
            f"training diverged at step {step}: loss {loss}, gradient norm {gradient_norm}; the newest checkpoint in "
            f"{workdir} is from before; lower config.schedule.peak_learning_rate or set "
            "config.optimizer.gradient_clip_norm"
        )
