"""Where a run reports: console, JSON lines, TensorBoard and, if configured, Weights & Biases.

Every process makes the same calls; only the first one writes.
"""

import contextlib
import dataclasses
import importlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import SupportsFloat

import jax
from etils import epath

from clippy_jax.config import Config
from clippy_jax.errors import InputError


def log_line(text: str) -> None:
    """Prints on the first process only, at once."""
    if jax.process_index() == 0:
        print(text, flush=True)


class MetricWriter:
    """Writes training scalars and evaluation results, with the rate and the time left worked out from its own clock.

    The clock starts at the first `write`, which therefore has no rate: compilation is not counted. Call it after the
    first step of a run, then at regular steps.

    Args:
      workdir: gets `metrics.jsonl` (a JSON object per line), `tensorboard/` and, for W&B, `wandb_run_id`.
      config: of the run.
      start_step: steps done before this start of the run; lines of later steps in `metrics.jsonl`, written before an
        interruption, are dropped because those steps are about to be done again.
      clock: seconds, from any origin.

    Raises:
      InputError: W&B is configured but is not installed or does not start.
    """

    def __init__(
        self, workdir: epath.PathLike, config: Config, start_step: int, clock: Callable[[], float] = time.monotonic
    ):
        self._batch_size = config.input.batch_size
        self._total_steps = config.schedule.stop_step
        self._clock = clock
        self._first_write: tuple[int, float] | None = None  # (step, training seconds) where the clock started
        self._last_write: tuple[int, float] | None = None
        self._seconds_outside = 0.0
        self._seconds_waited = 0.0
        self._sinks: list[_JsonLines | _TensorBoard | _WeightsAndBiases] = []
        if jax.process_index() == 0:
            folder = epath.Path(workdir)
            if config.wandb.project:
                self._sinks.append(_WeightsAndBiases(folder, config))
            self._sinks += [_JsonLines(folder / "metrics.jsonl", start_step), _TensorBoard(folder / "tensorboard")]

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
        self._seconds_outside += self._clock() - start

    def write(self, step: int, values: Mapping[str, SupportsFloat], skipped: Mapping[str, int]) -> None:
        """Reports on training after `step` steps; waits for the device where values are its arrays.

        Args:
          step: steps done.
          values: scalars by name; "loss" and "learning_rate" are the ones that the console shows.
          skipped: samples left out since the start, by cause.
        """
        values = {name: float(value) for name, value in values.items()}
        now = (step, self._clock() - self._seconds_outside)
        left = None
        if self._last_write is None:
            self._first_write = now
        else:
            values["images_per_second"] = self._batch_size / _seconds_per_step(self._last_write, now)
            values["data_wait"] = self._seconds_waited / (now[1] - self._last_write[1])
            left = (self._total_steps - step) * _seconds_per_step(self._first_write, now)
        self._last_write = now
        self._seconds_waited = 0.0
        log_line(self._progress(step, values, left, skipped))
        self._emit(step, values | {f"skipped/{cause}": float(count) for cause, count in skipped.items()})

    def write_evaluation(self, step: int, name: str, values: Mapping[str, SupportsFloat]) -> None:
        """Reports what the evaluation `name` found after `step` steps; its scalars are filed under `name/`."""
        values = {key: float(value) for key, value in values.items()}
        log_line(f"step {step:,}  {name}: " + "  ".join(f"{key} {value:.4g}" for key, value in values.items()))
        self._emit(step, {f"{name}/{key}": value for key, value in values.items()})

    def close(self) -> None:
        """Writes out what is still buffered."""
        for sink in self._sinks:
            sink.close()

    def _emit(self, step: int, values: Mapping[str, float]) -> None:
        for sink in self._sinks:
            sink.write(step, values)

    def _progress(self, step: int, values: Mapping[str, float], left: float | None, skipped: Mapping[str, int]) -> str:
        total = f"{self._total_steps:,}"
        parts = [f"step {step:>{len(total)},}/{total}"]
        if "loss" in values:
            parts.append(f"loss {values['loss']:.4f}")
        if "learning_rate" in values:
            parts.append(f"learning rate {values['learning_rate']:.2e}")
        if left is not None:
            parts.append(f"{values['images_per_second']:,.1f} images/s")
            parts.append(f"{format_duration(left)} left")
            parts.append(f"data wait {values['data_wait']:.0%}")
        causes = [f"{count:,} {cause}" for cause, count in skipped.items() if count]
        if causes:
            parts.append("skipped " + ", ".join(causes))
        return "  ".join(parts)


def format_duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _seconds_per_step(start: tuple[int, float], end: tuple[int, float]) -> float:
    return (end[1] - start[1]) / (end[0] - start[0])


class _JsonLines:
    """`{"step": 200, "loss": 3.1, ...}` per line; a number that JSON lacks (NaN, infinity) is null."""

    def __init__(self, path: epath.Path, start_step: int):
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _belongs_before(line, start_step)]
            temporary = path.parent / f"{path.name}.tmp"
            temporary.write_text("".join(f"{line}\n" for line in kept))
            temporary.replace(path)
        self._file = path.open("a")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _belongs_before(line: str, start_step: int) -> bool:
    try:
        return json.loads(line)["step"] <= start_step
    except ValueError:  # cut off in the middle of writing
        return False


class _TensorBoard:
    """Event files, through TensorBoard's own writer; no summary operations of TensorFlow."""

    def __init__(self, folder: epath.Path):
        from tensorboard.summary import Writer  # here because its first file takes seconds to open: it loads TensorFlow

        self._writer = Writer(str(folder))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    """A W&B run that goes on under the same id whenever the training is restarted."""

    def __init__(self, folder: epath.Path, config: Config):
        try:
            wandb = importlib.import_module("wandb")
        except ImportError:
            raise InputError(
                f"config.wandb.project is {config.wandb.project!r} but the package wandb is not installed; "
                "pip install wandb, or leave it empty"
            ) from None
        id_file = folder / "wandb_run_id"
        run_id = id_file.read_text() if id_file.exists() else None
        try:
            self._run = wandb.init(
                project=config.wandb.project,
                name=config.wandb.name or folder.name,
                id=run_id,
                resume="allow",
                dir=str(folder),
                config=dataclasses.asdict(config),
            )
        except wandb.Error as error:
            reason = " ".join(str(error).split())
            raise InputError(f"config.wandb.project is {config.wandb.project!r} but W&B refuses: {reason}") from None
        id_file.write_text(self._run.id)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
