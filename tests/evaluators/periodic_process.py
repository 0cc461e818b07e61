"""One of two processes of a run that evaluates itself, started with: ADDRESS NUMBER IMAGENET FAULT.

FAULT: what the second process meets in the images of the last class: a `bug` of ours, or files that are no images.
"""

import os
import sys
from types import SimpleNamespace

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

from clippy_jax import processes  # noqa: E402
from clippy_jax.datasets import image_file  # noqa: E402
from clippy_jax.evaluators import periodic  # noqa: E402
from tests.evaluators.fake_model import FakeModel  # noqa: E402

if __name__ == "__main__":
    address, number, imagenet, fault = sys.argv[1:]
    processes.initialize(address, 2, int(number))
    if number == "1":
        open_image = image_file.open_image

        def broken(path):
            if path.parent.name == "class_c":
                raise RuntimeError("a bug") if fault == "bug" else OSError("unreadable")
            return open_image(path)

        image_file.open_image = broken
    model = FakeModel(8)
    periodic.Model = lambda *arguments: model
    config = SimpleNamespace(
        evals=SimpleNamespace(
            tasks={"imagenet": SimpleNamespace(path=imagenet, every_steps=1)}, batch_size=8, image_size=32
        ),
        schedule=SimpleNamespace(stop_step=9),
        input=SimpleNamespace(image_size=32),
        model=model.config,
    )
    evaluation = periodic.PeriodicEvaluation(config, None, model.mesh)
    with processes.failing_together():
        print(list(evaluation.run(1, {})), flush=True)
