"""The evaluations that a training run makes of itself, every so many steps."""

import traceback
from collections.abc import Iterator
from typing import Any

from jax.sharding import Mesh

from clippy_jax.config import Config
from clippy_jax.evaluators import tasks
from clippy_jax.inference import Model
from clippy_jax.input_pipeline.tokenizer import Tokenizer
from clippy_jax.mesh import check_batch_size


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
        self._tasks = {name: task for name, task in config.evals.tasks.items() if task.path}
        if self._tasks:
            check_batch_size(config.evals.batch_size, mesh, "config.evals.batch_size")
        for name, task in self._tasks.items():
            tasks.TASKS[name].check(task.path)

    def _due(self, step: int) -> list[str]:
        last = step == self._config.schedule.stop_step
        return [
            name for name, task in self._tasks.items() if last or (task.every_steps and step % task.every_steps == 0)
        ]

    def run(self, step: int, params: dict[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
        """Yields (evaluation, its figures) for each that is due after `step` steps.

        One that fails says so and stops nothing: the training is worth more than a number about it.
        """
        names = self._due(step)
        if not names:
            return
        model = Model(params, self._config.model, self._tokenizer, self._config.input.image_size, self._mesh)
        evals = self._config.evals
        settings = dict(batch_size=evals.batch_size, image_size=evals.image_size, progress=False)
        for name in names:
            try:
                yield name, tasks.TASKS[name].evaluate(model, self._tasks[name].path, **settings).figures()
            except Exception:
                print(f"evaluation {name} failed at step {step}:\n{traceback.format_exc()}", flush=True)
