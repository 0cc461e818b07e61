"""What every evaluation is: data, read and checked once, that any number of models can be measured on."""

import abc
import dataclasses
import time
from collections.abc import Callable
from typing import Any

from clippy_jax.config import check_image_size
from clippy_jax.evaluators.result import Result
from clippy_jax.inference import Model
from clippy_jax.mesh import check_batch_size


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag of the evaluation program that becomes a keyword of an evaluator; left out, the evaluator decides.

    The short help leaves out what is `rare`.
    """

    name: str
    keyword: str
    kind: Callable[[str], Any]
    help: str
    choices: tuple[str, ...] = ()
    rare: bool = True


@dataclasses.dataclass(frozen=True)
class Feeding:
    """How images are fed, whatever is measured.

    Attributes:
      batch_size: images a step, over all devices of all processes.
      image_size: pixels of the short side of an image as it is fed.
      progress: whether to show bars.
    """

    batch_size: int
    image_size: int
    progress: bool


class Evaluator(abc.ABC):
    """A measure on one data set; `__init__` reads and checks the data, and raises `InputError` if it does not fit."""

    flags: tuple[Flag, ...] = ()  # what may be chosen on the command line; training evaluates without any

    def run(self, model: Model, *, batch_size: int, image_size: int, progress: bool = False) -> Result:
        """Measures a model, as often as wanted; all processes must call it together.

        Args:
          model: the model; its mesh shares out each batch.
          batch_size: images a step, over all devices of all processes.
          image_size: pixels of the short side of an image as it is fed.
          progress: whether to show bars.

        Raises:
          InputError: a size does not fit the model, more than 1 % of the images are unreadable, or an image or its
            labels are not what they should be; in all processes alike.
        """
        started = time.perf_counter()
        check_image_size(image_size, model.config.image, "image_size")
        check_batch_size(batch_size, model.mesh, "batch_size")
        result = self.measure(model, Feeding(batch_size, image_size, progress))
        seconds = time.perf_counter() - started
        return dataclasses.replace(result, image_size=image_size, pooling=model.config.pooling, seconds=seconds)

    @abc.abstractmethod
    def measure(self, model: Model, feeding: Feeding) -> Result:
        """What `run` does with sizes that are checked."""
