"""Evaluations that several processes make together."""

import json
import socket

import numpy as np

from clippy_jax.evaluators import Grouping, NearestNeighbours, Retrieval, Segmentation, ZeroShotClassification
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel
from tests.programs import Program


def run_two(module: str, arguments: list[list]) -> list[tuple[int, str]]:
    """The status and the output of two processes that run a module of this folder together."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        Program(["-m", f"tests.evaluators.{module}", address, number, *own]) for number, own in enumerate(arguments)
    ]
    try:
        outputs = [error + output for output, error in (process.communicate() for process in processes)]
        return [(process.returncode, output) for process, output in zip(processes, outputs)]
    finally:
        for process in processes:
            process.kill()


def test_a_bug_in_one_process_ends_both(tmp_path):
    """The other is waiting for it in a collective, so going on is impossible, and so is waiting for ever."""
    tree = trees.image_folder(tmp_path, 40)
    ended = run_two("periodic_process", [[tree, "bug"]] * 2)
    # Not by JAX's own signal, which comes when heartbeats have failed to come for long.
    assert [status for status, _ in ended] == [1, 1], ended
    assert "evaluation imagenet failed at step 1" in ended[1][1] and "RuntimeError: a bug" in ended[1][1]


def test_unreadable_images_of_one_process_stop_no_training(tmp_path):
    tree = trees.image_folder(tmp_path, 40)
    for status, output in run_two("periodic_process", [[tree, "files"]] * 2):
        assert status == 0 and "images cannot be read, more than 1%" in output and output.endswith("[]\n"), output


def test_two_processes_count_what_one_counts(tmp_path):
    imagenet = trees.image_folder(tmp_path / "imagenet", 130)
    sorted(imagenet.glob("*/*.jpg"))[6].write_bytes(b"no image")  # row 6 of a batch is the second process's
    voc = trees.voc_tree(tmp_path / "voc", [(50, 40), (40, 50), (50, 40)] * 4)
    trees.save_mask(np.full((40, 50), 7), voc / "SegmentationClass" / "scene_011.png")
    names = [f"scene_{index:03d}" for index in range(12)]
    (voc / "ImageSets/Segmentation/val.txt").write_text("\n".join(names[:11]))
    (voc / "ImageSets/Segmentation/wrong.txt").write_text("\n".join(names))

    settings = dict(batch_size=8, image_size=32, progress=False)
    classified = ZeroShotClassification(str(imagenet)).run(FakeModel(8), **settings)
    segmented = Segmentation(str(voc)).run(FakeModel(8), **settings)
    grouped = Grouping(str(voc)).run(FakeModel(8), **settings)
    pairs = tmp_path / "pairs.csv"
    photos = sorted(trees.image_folder(tmp_path / "photos", 21).glob("*/*.jpg"))
    pairs.write_text("\n".join(["filepath,title", *(f"{path},caption of {path}" for path in photos)]))
    trees.image_folder(tmp_path / "classes" / "train", 45, seed=1)
    trees.image_folder(tmp_path / "classes" / "val", 21, seed=2)
    retrieved = Retrieval(str(pairs)).run(FakeModel(8), **settings).figures()
    neighbours = NearestNeighbours(str(tmp_path / "classes")).run(FakeModel(8), **settings).figures()
    outputs = [tmp_path / "0.json", tmp_path / "1.json"]
    ended = run_two("several_processes", [[imagenet, voc, pairs, tmp_path / "classes", output] for output in outputs])
    assert [status for status, _ in ended] == [0, 0], ended
    for output in outputs:
        top1, images, unreadable, confusion, jaccard, *feature_figures, message = json.loads(output.read_text())
        assert (top1, images, tuple(unreadable)) == (classified.top1, 129, classified.unreadable)
        assert (confusion, jaccard) == (segmented.confusion, grouped.jaccard)
        assert feature_figures == [retrieved, neighbours]
        assert "scene_011.png holds label 7" in message
