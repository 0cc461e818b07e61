"""How much of an evaluation is spent in the image tower: the whole evaluation, then the tower alone on what it was fed.

Both run on the same cores, so CPU-seconds tell what reading, resizing and counting cost; the seconds tell of waiting.
"""

import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax

from clippy_jax.evaluators import Segmentation, ZeroShotClassification
from clippy_jax.inference import Model
from clippy_jax.inference.class_embedding_cache import ClassEmbeddingCache
from clippy_jax.input_pipeline.tokenizer import load_tokenizer
from clippy_jax.shapes.dataset import write_dataset
from clippy_jax.shapes.settings import Settings
from clippy_jax.training.state import init_params
from tools.benchmarks.progress import Progress
from tools.benchmarks.report import Case, Report, environment
from tools.benchmarks.training_step import Setting, model_config

# Images, and their pixels a side: those of photos of PASCAL VOC and ImageNet have as many.
SIZES = {"b16": (32, 432), "tiny": (28, 48)}
BATCH_SIZE = 8
PACKAGES = ("jax", "jaxlib", "flax", "tensorflow-cpu")


def measure(size: str) -> Report:
    """Evaluates random towers on Shapes in the layouts of ImageNet and PASCAL VOC, when all is compiled."""
    images, pixels = SIZES[size]
    config = model_config(size, "float32", Setting())
    params = jax.jit(lambda key: init_params(config, 224, key))(jax.random.key(0))
    cases, progress = [], Progress(2)
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder, "data")
        write_dataset(data, Settings(train_pairs=20, evaluation_images=images, image_size=pixels))
        evaluators = {
            "zero-shot classification": ZeroShotClassification(str(data / "imagenet" / "val")),
            "segmentation": Segmentation(str(data / "voc")),
        }
        for name, evaluator in evaluators.items():
            progress.begin(name)
            model = _Recording(params, config, load_tokenizer(data / "tokenizer"), image_size=224)
            model.class_embedding_cache = ClassEmbeddingCache(pathlib.Path(folder, "classes"), (size,))
            settings = dict(batch_size=BATCH_SIZE, image_size=model.image_size)
            evaluator.run(model, **settings)
            model.fed.clear()
            whole = _seconds(lambda: evaluator.run(model, **settings))  # noqa: B023 (called at once)
            fed = jax.block_until_ready(list(model.fed))
            tower = _seconds(lambda: [jax.block_until_ready(Model.encode_image(model, batch)) for batch in fed])  # noqa: B023
            for what, of_whole, of_tower in zip(("CPU-seconds", "seconds"), whole, tower):
                about = f"{what} of the image tower in {name}, {images} images of {pixels} x {pixels}"
                cases.append(Case(about, of_tower / of_whole, None, "of the evaluation's"))
    return Report(environment(jax.devices()[0].device_kind, PACKAGES), cases)


class _Recording(Model):
    """A model that keeps what its image tower is fed."""

    def __init__(self, *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        self.fed: list[jax.Array] = []

    def encode_image(self, images: Any) -> Any:
        self.fed.append(images)
        return super().encode_image(images)


def _seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """What some work takes: CPU-seconds of all threads, and seconds."""
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - clock
