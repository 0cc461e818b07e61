"""The evaluations that a report is made of: which there are, and results that are kept from one run to the next."""

import dataclasses
import json
import pathlib
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from clippy_jax.evaluators import TASKS, Evaluator
from clippy_jax.evaluators.protocols import STANDARD
from clippy_jax.evaluators.result import counts_path, write_results
from clippy_jax.inference import Model
from clippy_jax.report import data_sets

PUBLIC = "public"  # the other protocol that is this project's own
# Column of the open-vocabulary tables → evaluation.
TASK_OF_COLUMN = {
    "VOC21": "voc",
    "PC60": "context_background",
    "Object": "coco_object",
    "VOC20": "voc20",
    "City": "cityscapes19",
    "PC59": "context",
    "ADE": "ade20k",
    "Stuff": "coco_stuff",
}
RESOLUTIONS = (1.0, 1.5, 2.0)  # of Waterbirds, in training sizes: 224, 336 and 448 pixels for the paper's tower

Measured = Mapping[str, Any]  # the JSON of a result


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation of one model.

    Attributes:
      task: its name in `evaluators.TASKS`.
      protocol: of segmentation; "" for what has none.
      scale: of the image size, in training sizes.
      of: which of several data sets of a kind; "" where there is one.
    """

    task: str
    protocol: str = ""
    scale: float = 1.0
    of: str = ""

    @property
    def key(self) -> str:
        """A name for its file."""
        parts = (self.task, self.of, self.protocol, "" if self.scale == 1 else f"x{self.scale:g}")
        return "-".join(filter(None, parts))

    def evaluator(self, path: pathlib.Path) -> Evaluator:
        """Reads and checks the data; raises `InputError` where it is not complete."""
        return TASKS[self.task].evaluator(str(path), **({"protocol": self.protocol} if self.protocol else {}))

    def image_size(self, model: Model) -> int:
        """Pixels of the short side: whole patches."""
        patch_size = model.config.image.patch_size
        return round(self.scale * model.image_size / patch_size) * patch_size

    def command(self, path: pathlib.Path, checkpoint: str, tokenizer: str | None, image_size: int) -> str:
        """What makes this figure alone."""
        flags = [f"--checkpoint={checkpoint}", *([f"--tokenizer={tokenizer}"] if tokenizer else [])]
        flags += [f"--{self.task}={path}", f"--image_size={image_size}"]
        flags += [f"--segmentation_protocol={self.protocol}"] if self.protocol else []
        return shlex.join(["python", "-m", "clippy_jax.evaluate", *flags])


CLASSIFICATION = (Evaluation("imagenet"), Evaluation("imagenet_v2"))
GROUPING = Evaluation("grouping")
SEGMENTATION = (
    Evaluation("voc", STANDARD),
    Evaluation("voc", PUBLIC),
    Evaluation("ade20k", STANDARD),
    Evaluation("coco", STANDARD),
    Evaluation("coco_object", STANDARD),
)
WATERBIRDS = tuple(Evaluation("waterbirds", scale=scale) for scale in RESOLUTIONS)
RETRIEVAL = {
    data_sets.COCO_CAPTIONS: Evaluation("retrieval", of="coco"),
    data_sets.FLICKR30K: Evaluation("retrieval", of="flickr30k"),
}
WDS = Evaluation("wds")
# What is shown of other trainings.
OF_A_TRAINING = (CLASSIFICATION[0], SEGMENTATION[0], GROUPING, *WATERBIRDS)


def find(root: pathlib.Path, protocols: Sequence[str]) -> dict[Evaluation, pathlib.Path]:
    """Every evaluation for which there is data, with its path."""
    found = {}
    for protocol in protocols:
        for task in TASK_OF_COLUMN.values():
            tree = data_sets.OF_TASK[task].find(root)
            # Nobody's table is of other classes.
            found[Evaluation(task, protocol)] = None if tree and data_sets.has_own_words(tree) else tree
    for evaluation in (*CLASSIFICATION, GROUPING, *SEGMENTATION, *WATERBIRDS):
        found[evaluation] = data_sets.OF_TASK[evaluation.task].find(root)
    for data, evaluation in RETRIEVAL.items():
        found[evaluation] = data.find(root)
    found[WDS] = data_sets.find_wds(root)
    return {evaluation: path for evaluation, path in found.items() if path is not None}


def run(
    evaluators: Mapping[Evaluation, tuple[pathlib.Path, Evaluator]],
    model: Model,
    checkpoint: str,
    tokenizer: str | None,
    digest: str,
    folder: pathlib.Path,
    batch_size: int,
) -> dict[Evaluation, Measured]:
    """The results of a model: what is kept in the folder and still holds, and the others measured now.

    What is kept holds for the same weights, options and image size, and data that are not newer. Each result is kept as
    soon as it is there, with the counts of each image beside it.

    Args:
      evaluators: what to measure, on which data.
      model: the model.
      checkpoint: where it came from.
      tokenizer: the same, where it was given.
      digest: of its weights.
      folder: of the results, made if it is not there.
      batch_size: images a step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    measured, about = {}, {}
    for evaluation, (path, _) in evaluators.items():
        command = evaluation.command(path, checkpoint, tokenizer, evaluation.image_size(model))
        about[evaluation] = {"checkpoint": checkpoint, "checkpoint_digest": digest, "command": command}
        kept = _kept(folder / f"{evaluation.key}.json", about[evaluation], path.stat().st_mtime)
        if kept is not None:
            measured[evaluation] = kept
    if measured:
        print(
            f"{checkpoint}: {len(measured)} of {len(evaluators)} evaluations are kept from an earlier run", flush=True
        )
    to_do = [evaluation for evaluation in evaluators if evaluation not in measured]
    started = time.monotonic()
    for done, evaluation in enumerate(to_do):
        _, evaluator = evaluators[evaluation]
        left = (time.monotonic() - started) / done * (len(to_do) - done) if done else 0
        in_units = f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"
        about_left = f", about {in_units} left" if done else ""
        print(f"{checkpoint}: evaluation {done + 1} of {len(to_do)}, {evaluation.key}{about_left}", flush=True)
        size = evaluation.image_size(model)
        result = evaluator.run(model, batch_size=batch_size, image_size=size, progress=True)
        file = folder / f"{evaluation.key}.json"
        write_results({evaluation.task: result}, file, **about[evaluation])
        measured[evaluation] = _kept(file, about[evaluation], newest=0)
    return {evaluation: measured[evaluation] for evaluation in evaluators}


def _kept(file: pathlib.Path, about: Mapping[str, Any], newest: float) -> Measured | None:
    """A result with its parts, if it is there, complete, of the same weights and options, and made after `newest`."""
    try:
        results = json.loads(file.read_text("utf-8"))
        if file.stat().st_mtime < newest:
            return None
    except (OSError, ValueError):
        return None
    first = next(iter(results.values()), {})
    if not counts_path(file).is_file() or any(first.get(key) != value for key, value in about.items()):
        return None
    return first | {"parts": {name.partition("/")[2]: part for name, part in results.items() if "/" in name}}
