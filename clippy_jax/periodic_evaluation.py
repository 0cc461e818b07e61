"""The evaluations that a training run makes of itself, every so many steps."""

import traceback
from collections.abc import Iterator
from typing import Any

from jax.sharding import Mesh

from clippy_jax.config import Config
from clippy_jax.evaluators import image_folder, segmentation, voc_tree, zero_shot_classification
from clippy_jax.inference import Model
from clippy_jax.input_pipeline.tokenizer import Tokenizer
from clippy_jax.training.sharding import check_batch_size

VOC_SPLIT = "val"


class PeriodicEvaluation:
    """What `config.evals` names, each at its own period and once more at the end.

    Raises:
      InputError: a tree or a size does not fit; before training starts.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer, mesh: Mesh):
        self._config = config
        self._tokenizer = tokenizer
        self._mesh = mesh
        evals = config.evals
        self._periods = {
            name: getattr(evals, name).every_steps for name in ("imagenet", "voc") if getattr(evals, name).folder
        }
        if self._periods:
            check_batch_size(evals.batch_size, mesh, "config.evals.batch_size")
        if evals.imagenet.folder:
            image_folder.read(evals.imagenet.folder)
        if evals.voc.folder:
            voc_tree.read(evals.voc.folder, VOC_SPLIT)

    def _due(self, step: int) -> list[str]:
        last = step == self._config.schedule.stop_step
        return [name for name, period in self._periods.items() if last or (period and step % period == 0)]

    def run(self, step: int, params: dict[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
        """Yields (evaluation, its figures) for each that is due after `step` steps.

        One that fails says so and stops nothing: the training is worth more than a number about it.
        """
        names = self._due(step)
        if not names:
            return
        model = Model(params, self._config.model, self._tokenizer, self._config.input.image_size, self._mesh)
        for name in names:
            try:
                yield name, self._evaluate(name, model)
            except Exception:
                print(f"evaluation {name} failed at step {step}:\n{traceback.format_exc()}", flush=True)

    def _evaluate(self, name: str, model: Model) -> dict[str, float]:
        evals = self._config.evals
        sizes = dict(batch_size=evals.batch_size, image_size=evals.image_size, progress=False)
        if name == "imagenet":
            return zero_shot_classification.evaluate(model, evals.imagenet.folder, **sizes).figures()
        return segmentation.evaluate(model, evals.voc.folder, split=VOC_SPLIT, protocol="standard", **sizes).figures()
