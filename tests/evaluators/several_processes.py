"""One of the two processes of an evaluation, started with: ADDRESS NUMBER IMAGENET VOC PAIRS TRAIN_AND_VAL OUTPUT."""

import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax  # noqa: E402

from clippy_jax.errors import InputError  # noqa: E402
from clippy_jax.evaluators import (  # noqa: E402
    Grouping,
    NearestNeighbours,
    Retrieval,
    Segmentation,
    ZeroShotClassification,
)
from tests.evaluators.fake_model import FakeModel  # noqa: E402

if __name__ == "__main__":
    address, number, imagenet, voc, pairs, train_and_val, output = sys.argv[1:]
    jax.distributed.initialize(address, num_processes=2, process_id=int(number))
    model = FakeModel(8)
    settings = dict(batch_size=8, image_size=32, progress=False)
    classified = ZeroShotClassification(imagenet).run(model, **settings)
    segmented = Segmentation(voc).run(model, **settings)
    grouped = Grouping(voc).run(model, **settings)
    retrieved = Retrieval(pairs).run(model, **settings).figures()
    neighbours = NearestNeighbours(train_and_val).run(model, **settings).figures()
    try:
        Segmentation(voc, split="wrong").run(model, **settings)
    except InputError as error:
        message = str(error)
    figures = [classified.top1, classified.images, classified.unreadable, segmented.confusion, grouped.jaccard]
    with open(output, "w") as file:
        json.dump([*figures, retrieved, neighbours, message], file)
