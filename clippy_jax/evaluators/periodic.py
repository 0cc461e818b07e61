"""The evaluations that a training run makes of itself, every so many steps."""

import traceback
from collections.abc import Collection, Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from clippy_jax.config import Config
from clippy_jax.errors import InputError
from clippy_jax.evaluators import tasks
from clippy_jax.inference import Model
from clippy_jax.input_pipeline.tokenizer import Tokenizer
from clippy_jax.mesh import check_batch_size
from clippy_jax.processes import say


class PeriodicEvaluation:
    """What `config.evals.tasks` names, each at its own period and once more at the end.

    Raises:
      InputError: a name, a path or a size does not fit; before training starts.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer, mesh: Mesh):
        self._config = config
        self._tokenizer = tokenizer
        self._mesh = mesh
        for name in config.evals.tasks:
            tasks.check_name(name, f"config.evals.tasks.{name}")
        paths = {name: task.path for name, task in config.evals.tasks.items() if task.path}
        if paths:
            check_batch_size(config.evals.batch_size, mesh, "config.evals.batch_size")
        self._evaluators = {name: tasks.TASKS[name].evaluator(path) for name, path in paths.items()}

    def due(self, step: int, made: Collection[str] = ()) -> list[str]:
        """The evaluations that are due after `step` steps and not among those that are `made`."""
        at_the_end = step == self._config.schedule.stop_step
        periods = {name: self._config.evals.tasks[name].every_steps for name in self._evaluators}
        due = [name for name, period in periods.items() if at_the_end or (period and step % period == 0)]
        return [name for name in due if name not in made]

    def run(
        self, step: int, params: dict[str, Any], made: Collection[str] = ()
    ) -> Iterator[tuple[str, dict[str, float]]]:
        """Yields (evaluation, its figures) for each that is due after `step` steps and not among those `made`.

        One that fails says so and stops nothing: the training is worth more than a number about it. Only where several
        processes train together a bug ends the run, since the others may be waiting for this process. (An `InputError`
        is raised by all of them or by none.)
        """
        due = self.due(step, made)
        if not due:
            return
        model = Model(params, self._config.model, self._tokenizer, self._config.input.image_size, self._mesh)
        evals = self._config.evals
        for name in due:
            try:
                result = self._evaluators[name].run(model, batch_size=evals.batch_size, image_size=evals.image_size)
            except Exception as error:
                say(f"evaluation {name} failed at step {step}:\n{traceback.format_exc()}")
                if jax.process_count() > 1 and not isinstance(error, InputError):
                    raise
                continue
            yield name, result.figures()
