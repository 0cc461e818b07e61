"""The file about a step that was not finite, `WORKDIR/diverged/STEP.safetensors`.

Nothing in it could run: in its metadata, as JSON, are the step, the figures, the samples, the configuration and the
newest checkpoint from before; with `config.save_diverged_batch` its arrays are the images and tokens.
"""

import dataclasses
import json
from typing import Any

import numpy as np
from etils import epath

from clippy_jax.config import Config, parse
from clippy_jax.errors import reading
from clippy_jax.input_pipeline.pipeline import Batch
from clippy_jax.weights.safetensors_file import read_safetensors, write_safetensors
from clippy_jax.whole_files import complete_or_nothing

_KEY = "clippy_jax.diverged"


@dataclasses.dataclass(frozen=True)
class DivergedStep:
    """What the file tells.

    Attributes:
      step: the step that was not finite, from 1.
      what: how that showed.
      workdir: of the run.
      config: of the run.
      samples: where the samples of the batch lie, row by row.
      batch: its images and tokens, if they were saved.
    """

    step: int
    what: str
    workdir: str
    config: Config
    samples: list[str]
    batch: Batch | None


def write_diverged_step(path: epath.PathLike, step: DivergedStep, more: dict[str, Any]) -> None:
    """Writes the file, completely or not at all.

    Args:
      more: what else may help whoever reads the metadata.

    Raises:
      InputError: it cannot be written.
    """
    values = {"step": step.step, "what": step.what, "workdir": step.workdir, "samples": step.samples}
    values |= {"config": dataclasses.asdict(step.config), **more}
    arrays = {"step": np.int64(step.step)} if step.batch is None else step.batch._asdict()
    with complete_or_nothing(path, force=True) as temporary:
        write_safetensors(temporary, arrays, {_KEY: json.dumps(values)})


def read_diverged_step(path: str) -> DivergedStep:
    """Reads a file that `FiniteNumbers` wrote; raises `InputError` if it is missing, damaged or another."""
    arrays, metadata = read_safetensors(path)
    with reading(path, "give WORKDIR/diverged/STEP.safetensors", "was not written by a run that diverged"):
        values = json.loads(metadata[_KEY])
        config = parse(values["config"])
        batch = Batch(arrays["images"], arrays["tokens"]) if "images" in arrays else None
        names = [str(name) for name in values["samples"]]
        size = config.input.image_size
        image, kind = (size, size, 3), np.uint8
        if batch and config.input.image_features:  # which tells their shape
            image, kind = batch.images.shape[-2:], np.float32
        if batch and (
            (batch.images.shape, batch.images.dtype) != ((len(names), *image), kind)
            or (batch.tokens.shape, batch.tokens.dtype) != ((len(names), config.input.text_length), np.int32)
            or len(names) != config.input.batch_size
        ):
            raise ValueError("other arrays than the configuration has")
        return DivergedStep(int(values["step"]), str(values["what"]), str(values["workdir"]), config, names, batch)
