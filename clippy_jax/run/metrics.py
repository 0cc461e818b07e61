"""What a run tells: its progress on the console; its figures as JSON lines, for TensorBoard and for Weights & Biases.

The writers are clu's or have its interface. Every process makes the same calls; only the first one writes. Importing
this module loads TensorFlow.
"""

import contextlib
import dataclasses
import datetime
import functools
import importlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import SupportsFloat

import jax
from clu import metric_writers
from etils import epath

from clippy_jax.config import Config
from clippy_jax.errors import InputError, reading
from clippy_jax.processes import gather_texts, log_line
from clippy_jax.run.json_lines import JsonLines, go_back, read_lines
from clippy_jax.training.step_work import StepWork, step_work
from clippy_jax.whole_files import write_text

_LINES = "metrics.jsonl"


def open_writer(workdir: epath.PathLike, config: Config, start_step: int) -> metric_writers.MetricWriter:
    """A writer of scalars to `metrics.jsonl` and `tensorboard/` in a workdir and, if configured, to Weights & Biases.

    Args:
      start_step: steps done before this start of the run; lines of later steps in `metrics.jsonl`, written before an
        interruption, are dropped because those steps are about to be done again.

    Raises:
      InputError: W&B is configured but is not installed or does not start.
    """
    if jax.process_index() != 0:
        return metric_writers.MultiWriter([])
    folder = epath.Path(workdir)
    writers = [WeightsAndBiases(folder, config)] if config.wandb.project else []
    writers += [_JsonLinesWriter(folder / _LINES, start_step), _TensorBoardWriter(folder / "tensorboard")]
    return metric_writers.MultiWriter(writers)


def evaluations_made(workdir: epath.PathLike, step: int) -> set[str]:
    """The evaluations whose figures after `step` steps a run has written. All processes call it together."""
    path, names = epath.Path(workdir) / _LINES, set()
    if jax.process_index() == 0 and path.exists():
        names = {name.partition("/")[0] for line in read_lines(path) if line["step"] == step for name in line}
    return set(json.loads(gather_texts(json.dumps(sorted(names)))[0]))


class Progress:
    """Reports on the training to the console and to a writer, with its rates and the time left.

    All of them count training only: the clock starts at the first report, which therefore has no rate, and stands still
    where the run compiles or evaluates.

    Args:
      writer: gets all scalars.
      config: of the run.
      peak: FLOP/s that the data sheets promise of all devices together; None where they are not known.
      clock: seconds, from any origin.
    """

    def __init__(
        self,
        writer: metric_writers.MetricWriter,
        config: Config,
        peak: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._writer = writer
        self._config = config
        self._total_steps = config.schedule.stop_step
        self._peak = peak
        self._clock = clock
        self._first: tuple[int, float] | None = None  # (step, training seconds) of the first report
        self._last: tuple[int, float] | None = None  # and of the last one
        self._seconds_outside = 0.0
        self._seconds_waited = 0.0
        self._work = StepWork(0, 0)  # since the last report

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Surrounds fetching a batch: its share of the time is reported as `data_wait`."""
        start = self._clock()
        yield
        self._seconds_waited += self._clock() - start

    @contextlib.contextmanager
    def outside_training(self) -> Iterator[None]:
        """Surrounds what is no training (an evaluation), so that it does not lower the rate."""
        start = self._clock()
        yield
        self.leave_out(self._clock() - start)

    def leave_out(self, seconds: float) -> None:
        """The same for what has taken so many seconds."""
        self._seconds_outside += seconds

    def count(self, rows: int, length: int, feature_tokens: int | None = None) -> None:
        """Counts the work of a step whose texts take so many rows of so many tokens (`training/step_work.py`)."""
        config = self._config
        batch = config.input.image_size, config.input.batch_size
        work = step_work(config.model, config.optimizer.freeze, *batch, rows, length, feature_tokens)
        self._work = StepWork(*(a + b for a, b in zip(self._work, work)))

    def report(self, step: int, values: Mapping[str, SupportsFloat], skipped: Mapping[str, int]) -> None:
        """Reports on training after `step` steps; waits for the device where values are its arrays.

        Args:
          step: steps done.
          values: scalars by name, "loss" and "learning_rate" among them, which the console shows.
          skipped: samples of the run that could not be used, by cause.
        """
        values = {name: float(value) for name, value in values.items()}
        t = self._clock() - self._seconds_outside
        total = f"{self._total_steps:,}"
        line = [f"step {step:>{len(total)},}/{total}"]
        line += [f"loss {values['loss']:.4f}", f"learning rate {values['learning_rate']:.2e}"]
        if self._last is None:
            self._first = step, t
        else:
            seconds = t - self._last[1]
            values["images_per_second"] = self._config.input.batch_size * (step - self._last[0]) / seconds
            values["tokens_per_second"] = self._work.tokens / seconds
            line += [f"{values['images_per_second']:,.1f} images/s", f"{values['tokens_per_second']:,.0f} tokens/s"]
            if self._peak:
                values["mfu"] = self._work.flops / seconds / self._peak
                line.append(f"MFU {values['mfu']:.1%}")
            left = (self._total_steps - step) * (t - self._first[1]) / (step - self._first[0])
            values["data_wait"] = self._seconds_waited / seconds
            line += [f"{datetime.timedelta(seconds=round(left))} left", f"data wait {values['data_wait']:.0%}"]
        self._last, self._seconds_waited, self._work = (step, t), 0.0, StepWork(0, 0)
        if peak_memory := _peak_memory():
            values["peak_memory_gb"] = peak_memory / 1e9
            line.append(f"peak memory {values['peak_memory_gb']:.1f} GB")
        causes = [f"{count:,} {cause}" for cause, count in skipped.items() if count]
        log_line("  ".join(line + ["skipped " + ", ".join(causes)] * bool(causes)))
        self._write(step, values | {f"skipped/{cause}": float(count) for cause, count in skipped.items()})

    def report_evaluation(self, step: int, name: str, values: Mapping[str, SupportsFloat]) -> None:
        """Reports what the evaluation `name` found after `step` steps; its scalars are filed under `name/`."""
        values = {key: float(value) for key, value in values.items()}
        log_line(f"step {step:,}  {name}: " + "  ".join(f"{key} {value:.4g}" for key, value in values.items()))
        self._write(step, {f"{name}/{key}": value for key, value in values.items()})

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        self._writer.write_scalars(step, values)
        self._writer.flush()


def _peak_memory() -> int:
    """Bytes that were in use at most on the fullest of this process's devices; 0 where they do not tell, as CPUs."""
    stats = (device.memory_stats() or {} for device in jax.local_devices())
    return max(one.get("peak_bytes_in_use", 0) for one in stats)


class _ScalarWriter(metric_writers.MetricWriter):
    """The part of clu's interface that a run uses: scalars."""

    def _refuse(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} writes scalars only")

    write_summaries = write_images = write_videos = write_audios = write_texts = _refuse
    write_histograms = write_hparams = _refuse

    def flush(self) -> None:
        """Does nothing: what is written is written."""


class _JsonLinesWriter(JsonLines, _ScalarWriter):
    """`{"step": 200, "loss": 3.1, ...}` per line; a number that JSON lacks (NaN, infinity) is null."""

    def __init__(self, path: epath.Path, start_step: int):
        """Goes on with the file as it was after `start_step` steps."""
        go_back(path, start_step)
        super().__init__(path)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Appends a line."""
        self.write(step, {name: value if math.isfinite(value) else None for name, value in scalars.items()})


class _TensorBoardWriter(_ScalarWriter):
    """clu's, with one line where TensorFlow cannot write."""

    def __init__(self, folder: epath.Path):
        advice = "see to it and start the same command again"
        self._writing = functools.partial(reading, folder, advice, wrong="cannot be written")
        with self._writing():
            self._writer = metric_writers.SummaryWriter(os.fspath(folder))

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds them to the file."""
        with self._writing():
            self._writer.write_scalars(step, scalars)

    def flush(self) -> None:
        """Hands what is written so far to the file system."""
        with self._writing():
            self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        with self._writing():
            self._writer.close()


class WeightsAndBiases(_ScalarWriter):
    """A W&B run that goes on under the same id (`wandb_run_id` in its folder) whenever the training is restarted."""

    def __init__(self, folder: epath.Path, config: Config):
        """Starts or continues the run; raises `InputError` where that fails."""
        try:
            wandb = importlib.import_module("wandb")
        except ImportError:
            raise InputError(
                f"config.wandb.project is {config.wandb.project!r} but the package wandb is not installed; "
                "pip install wandb, or leave it empty"
            ) from None
        id_file = folder / "wandb_run_id"
        with reading(f"config.wandb.project is {config.wandb.project!r} but W&B", wrong="refuses"):
            self._run = wandb.init(
                project=config.wandb.project,
                name=config.wandb.name or folder.resolve().name,  # that of --workdir=., too
                id=id_file.read_text() if id_file.exists() else None,
                resume="allow",
                dir=os.fspath(folder),
                config=dataclasses.asdict(config),
            )
        write_text(id_file, self._run.id)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs them."""
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()
