"""One of the two processes of an evaluation, started with: ADDRESS NUMBER IMAGENET VOC PAIRS TRAIN_AND_VAL OUTPUT."""

import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax  # noqa: E402

from clippy_jax.errors import InputError  # noqa: E402
from clippy_jax.evaluators import grouping, knn, retrieval, segmentation, zero_shot_classification  # noqa: E402
from tests.evaluators.fake_model import FakeModel  # noqa: E402

if __name__ == "__main__":
    address, number, imagenet, voc, pairs, train_and_val, output = sys.argv[1:]
    jax.distributed.initialize(address, num_processes=2, process_id=int(number))
    model = FakeModel(8)
    settings = dict(batch_size=8, image_size=32, progress=False)
    classified = zero_shot_classification.evaluate(model, imagenet, **settings)
    segmented = segmentation.evaluate(model, voc, protocol="standard", **settings)
    grouped = grouping.evaluate(model, voc, **settings)
    retrieved = retrieval.evaluate(model, pairs, **settings).figures()
    neighbours = knn.evaluate(model, train_and_val, **settings).figures()
    try:
        segmentation.evaluate(model, voc, protocol="standard", split="wrong", **settings)
    except InputError as error:
        message = str(error)
    figures = [classified.top1, classified.images, classified.unreadable, segmented.confusion, grouped.jaccard]
    with open(output, "w") as file:
        json.dump([*figures, retrieved, neighbours, message], file)
