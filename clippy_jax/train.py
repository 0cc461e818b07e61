"""Training from start to end: config → input → step → state → checkpoints and evaluations.

`train_and_evaluate` and the loop below it read in the order in which things happen. On several machines every process
runs them; what differs between processes (which part of a batch, who writes) is hidden in what they call.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from clu import parameter_overview, periodic_actions
from jax.sharding import Mesh

from clippy_jax.config import Config
from clippy_jax.divergence.finite_numbers import FiniteNumbers
from clippy_jax.errors import InputError
from clippy_jax.evaluators.periodic import PeriodicEvaluation
from clippy_jax.input_pipeline.device_batches import device_batches
from clippy_jax.input_pipeline.image_features import describe_tower
from clippy_jax.input_pipeline.pipeline import TrainingInput
from clippy_jax.mesh import check_batch_size, make_mesh, place_whole, replicated, state_sharding
from clippy_jax.processes import log_line
from clippy_jax.run import workdir_lock
from clippy_jax.run.checkpointing import Checkpointer
from clippy_jax.run.compilation import call_and_time_compilation, make_program_folder
from clippy_jax.run.interruption import Interrupted, Interruption
from clippy_jax.run.ledger import Ledger
from clippy_jax.run.metrics import Progress, evaluations_made, open_writer
from clippy_jax.run.workdir import config_overview, prepare_workdir, record_commits
from clippy_jax.run.writable_workdir import check_workdir, ending_in_one_line, make_workdir
from clippy_jax.training.device_rates import data_sheet_rate
from clippy_jax.training.optimizer import make_optimizer
from clippy_jax.training.state import TrainState, init_state
from clippy_jax.training.step import make_train_step
from clippy_jax.weights.load import initialise
from clippy_jax.weights.parameter_digest import parameter_digest


def train_and_evaluate(config: Config, workdir: str) -> bool:
    """Trains until `config.schedule.stop_step`; where `workdir` holds checkpoints, from the newest sound one on.

    Returns:
      Whether that step is reached and evaluated: a signal that takes the run away (`run/interruption.py`) ends it
      earlier, with everything saved.

    Raises:
      InputError: something in the configuration or in what it points to is wrong (before the first step), another run
        writes to `workdir`, or a number is no longer finite (then the newest checkpoint is from before).
    """
    mesh = make_mesh()
    check_batch_size(
        config.input.batch_size, mesh, "config.input.batch_size", config.microbatches, config.input.texts_per_pack
    )
    finished = False
    with Interruption() as interruption, contextlib.suppress(Interrupted), contextlib.ExitStack() as stack:
        with interruption.leaving():  # both may read the headers of a million files
            training_input = TrainingInput(config.input, jax.process_index(), jax.process_count())
            _check_vocabulary(training_input, config)
            evaluation = PeriodicEvaluation(config, training_input.tokenizer, mesh)
        make_workdir(workdir)
        make_program_folder(workdir)
        stack.enter_context(workdir_lock.hold(workdir))
        for change in prepare_workdir(workdir, config):
            log_line(f"changed since this run's last start: {change}")
        stack.enter_context(ending_in_one_line(workdir))
        log_line(config_overview(config))
        left_out = f" (left out: {training_input.left_out})" if training_input.left_out else ""
        log_line(f"{training_input.num_samples:,} pairs{left_out}; {training_input.steps_per_epoch:,} steps an epoch")

        checkpointer = stack.enter_context(Checkpointer(workdir, config.checkpoint, config.log_every_steps))
        state, shardings = first_state(config, mesh, checkpointer)
        if not int(state.step):
            record_commits(workdir, config)
        if training_input.features:
            own = jax.jit(lambda tower: tower, out_shardings=replicated(mesh))(state.params["image"])
            training_input.features.check_tower(describe_tower(config.model, parameter_digest(own)))
        log_line(_parameter_overview(state.params))
        train_step = jax.jit(make_train_step(config, mesh), donate_argnums=0, out_shardings=(shardings, None))
        last, finished = _loop(
            config, workdir, state, train_step, training_input, mesh, checkpointer, evaluation, interruption
        )
        if not finished:
            log_line(f"stopped after step {last:,}, which is saved; the same command goes on from there")
    return finished


def first_state(config: Config, mesh: Mesh, checkpointer: Checkpointer) -> tuple[TrainState, TrainState]:
    """The state to go on from, and its shardings: the newest checkpoint, else given weights, else random ones."""
    optimizer = make_optimizer(config.optimizer, config.schedule)
    new_state = functools.partial(
        init_state, config.model, config.loss, config.input.image_size, optimizer, config.optimizer.freeze
    )
    key = jax.random.key(config.seed)
    shapes = jax.eval_shape(new_state, key)
    shardings = state_sharding(shapes, mesh, config.parameter_sharding)

    if checkpointer.latest_step() is not None:
        placed = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
        state = checkpointer.restore(placed)
        log_line(f"continuing after step {int(state.step):,}")
        return state, shardings

    state = jax.jit(new_state, out_shardings=shardings)(key)
    init = config.init
    if init.image or init.text or init.clippy:
        params, left = initialise(state.params, config.model, init.image, init.text, init.clippy)
        for name in left:
            log_line(f"not in the starting weights, left at its initialisation: {name}")
        state = state.replace(params=jax.tree.map(place_whole, params, shardings.params))
    return state, shardings


def _parameter_overview(params: Any) -> str:
    """A table of all parameters, and how many there are in each tower."""
    shapes = jax.eval_shape(lambda params: params, params)
    table, _ = parameter_overview.get_parameter_overview(shapes, include_stats=False).rsplit("\n", 1)
    counts = {name: int(parameter_overview.count_parameters({name: tree})) for name, tree in shapes.items()}
    counts["all"] = sum(counts.values())
    return table + "\nParameters: " + ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _loop(
    config: Config,
    workdir: str,
    state: TrainState,
    train_step: Callable,
    training_input: TrainingInput,
    mesh: Mesh,
    checkpointer: Checkpointer,
    evaluation: PeriodicEvaluation,
    interruption: Interruption,
) -> tuple[int, bool]:
    """Makes the steps and evaluations that are left; returns the last step that was made, and whether none is left."""
    first, stop = int(state.step) + 1, config.schedule.stop_step
    profile = _profile(config, workdir)
    with (
        contextlib.closing(training_input.batches(first - 1, max(0, stop + 1 - first))) as local_batches,
        contextlib.closing(open_writer(workdir, config, first - 1)) as writer,
        contextlib.closing(Ledger(workdir, config.input.ledger, first - 1)) as ledger,
    ):
        progress = Progress(writer, config, _data_sheet_rate(config, mesh))
        numbers = FiniteNumbers(config, workdir, training_input, checkpointer, ledger)
        to_report = 0  # the step whose figures are noted and not reported yet

        def report():
            nonlocal to_report
            if to_report:
                check_workdir(workdir)
                figures = numbers.read()
                if config.skip_nonfinite_updates:
                    figures["updates_left_out"] = ledger.updates_left_out
                progress.report(to_report, figures, ledger.bad_samples())
                to_report = 0

        def save(step, state):
            check_workdir(workdir)
            numbers.read()
            numbers.check_state(step, state)
            ledger.flush()
            checkpointer.save(step, state)

        def evaluate(step, state, made=()):
            with progress.outside_training(), interruption.leaving():
                for name, figures in evaluation.run(step, state.params, made):
                    progress.report_evaluation(step, name, figures)

        if first > 1:  # a signal or a crash may have ended the last start within them
            evaluate(first - 1, state, evaluations_made(workdir, first - 1))
        batches = device_batches(local_batches, mesh, config.input.texts_per_pack, config.microbatches)
        batch = next(batches, None)
        for step in range(first, stop + 1):
            profile(step)
            packs, rows, length = batch[1].tokens.shape
            feature_tokens = batch[0].shape[1] if training_input.features else None
            (state, metrics), compile_seconds = call_and_time_compilation(train_step, state, *batch)
            if compile_seconds:
                progress.leave_out(compile_seconds)
                log_line(f"compiled for texts in {packs} x {rows} rows of {length} tokens in {compile_seconds:.1f} s")
            with progress.waiting_for_data():
                batch = next(batches, None)
            # The step before is reported while the devices make this one and receive the batch of the next.
            report()
            ledger.note(step, training_input.account(step - 1))
            progress.count(packs * rows, length, feature_tokens)
            numbers.note(step, metrics)

            if step % config.log_every_steps == 0 or step in (first, stop, *config.profile_steps):
                to_report = step
            taken_away = interruption.requested(step)
            saved = step == stop or taken_away or checkpointer.is_due(step)
            # The last profiled step, too, is reported at once: its trace is complete once its numbers are there.
            if saved or evaluation.due(step) or step in config.profile_steps:
                report()
            if saved:
                save(step, state)
            if not taken_away:
                try:
                    evaluate(step, state)
                except Interrupted:
                    taken_away = True
                    save(step, state)
            if taken_away:
                return step, step == stop and not evaluation.due(step, evaluations_made(workdir, step))
        profile(stop + 1)
    return max(first - 1, stop), True


def _data_sheet_rate(config: Config, mesh: Mesh) -> float | None:
    """FLOP/s of all devices together at the run's precision."""
    rate = data_sheet_rate(jax.devices()[0].device_kind, config.model.precision)
    return None if rate is None else rate * mesh.size


def _profile(config: Config, workdir: str) -> Callable[[int], object]:
    """To be called before each step and after the last: writes the trace of `config.profile_steps`, on one process."""
    first, last = config.profile_steps or (math.inf, math.inf)
    if first > config.schedule.stop_step or jax.process_index() != 0:
        return lambda step: None
    return periodic_actions.Profile(
        logdir=f"{workdir}/profile",
        first_profile=first,
        num_profile_steps=min(last, config.schedule.stop_step) + 1 - first,
        profile_duration_ms=None,
        every_secs=None,
    )


def _check_vocabulary(training_input: TrainingInput, config: Config) -> None:
    """Ids beyond the embedding table would silently be read as its last row."""
    ids, rows = training_input.tokenizer.vocabulary_size, config.model.text.vocabulary_size
    if ids > rows:
        raise InputError(
            f"config.model.text.vocabulary_size is {rows}, but the tokenizer in {config.input.tokenizer} has {ids} "
            f"ids; set it to at least {ids}"
        )
