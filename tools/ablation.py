"""What the pooling does: the demo's model trained with four of them, same data, same steps, same everything else.

`make ablation` calls it. It goes on from whatever `make demo` or an earlier ablation left in `runs/`, prints one table
(the paper's ablation of the pooling, and its Waterbirds gap, in miniature), and writes `runs/ablation/results.json` and
`runs/ablation/segments.png`: scenes with the segments that each pooling finds in them.
"""

import pathlib
import sys
import time
from collections.abc import Mapping

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import PIL.Image  # noqa: E402

import clippy_jax  # noqa: E402
from clippy_jax.analysis import segment_picture  # noqa: E402
from clippy_jax.datasets import voc_tree  # noqa: E402
from clippy_jax.evaluators import grouping, report, segmentation, waterbirds, zero_shot_classification  # noqa: E402
from clippy_jax.evaluators.result import Result  # noqa: E402
from clippy_jax.inference import (
    Model,  # noqa: E402
    segments,  # noqa: E402
)
from clippy_jax.inference.prompts import class_embeddings  # noqa: E402
from clippy_jax.segment import scenes  # noqa: E402
from clippy_jax.weights.parameter_digest import parameter_digest  # noqa: E402
from tools import demo  # noqa: E402

WORKDIRS = {
    "max": demo.WORKDIRS["max"],
    "max_with_cls": "runs/shapes-max_with_cls",
    "avg": "runs/shapes-avg",
    "cls": demo.WORKDIRS["cls"],
}
OUTPUT = pathlib.Path("runs/ablation")
BATCH_SIZE = 64
SCENES = 6  # those of the demo's picture


def main() -> None:
    """Runs every stage: data, four trainings, their evaluation, the picture and the table."""
    seconds = {"data": demo.render()}
    for pooling, workdir in WORKDIRS.items():
        seconds[f"train {pooling}"] = demo.train(pooling, workdir)

    OUTPUT.mkdir(parents=True, exist_ok=True)
    results, figures, models = {}, {}, {}
    for pooling, workdir in WORKDIRS.items():
        print(f"\n{workdir}", flush=True)
        start = time.monotonic()
        models[pooling] = clippy_jax.load(workdir)
        results[pooling] = evaluate(models[pooling])
        checkpoint = {"checkpoint": workdir, "checkpoint_digest": parameter_digest(models[pooling].params)}
        figures[pooling] = {name: report.json_values(result, checkpoint) for name, result in results[pooling].items()}
        seconds[f"evaluate {pooling}"] = round(time.monotonic() - start, 1)
    picture(models).save(OUTPUT / "segments.png")

    report.write_values({"pooling": figures, "seconds": seconds}, OUTPUT / "results.json")
    print(f"\n{report.pooling_table(results)}")
    print(f"\nFigures and times: {OUTPUT / 'results.json'}\nPicture:           {OUTPUT / 'segments.png'}")


def evaluate(model: Model) -> dict[str, Result]:
    """Everything that the table shows of one model, on Shapes' held-out scenes."""
    settings = dict(batch_size=BATCH_SIZE, image_size=model.image_size, progress=True)
    return {
        "classification": zero_shot_classification.evaluate(model, f"{demo.DATA}/imagenet/val", **settings),
        "segmentation": segmentation.evaluate(model, f"{demo.DATA}/voc", protocol="standard", **settings),
        "grouping": grouping.evaluate(model, f"{demo.DATA}/voc", **settings),
        "waterbirds": waterbirds.evaluate(model, f"{demo.DATA}/waterbirds", **settings),
    }


def picture(models: Mapping[str, Model]) -> PIL.Image.Image:
    """A row for each scene: the photo, the ground truth and what each pooling makes of it."""
    tree = voc_tree.read(f"{demo.DATA}/voc", "val")
    words = tree.vocabulary
    photos, truths = scenes(tree, SCENES)
    columns = [truths]
    for model in models.values():
        classes = class_embeddings(model, [[prompt] for prompt in words.prompts], progress=False)
        labels = [segments.segment(model, photo, classes, model.image_size) for photo in photos]
        columns.append([np.where(of_scene < len(words.classes), of_scene, 0) for of_scene in labels])
    rows = [segment_picture.Row(photo, maps) for photo, *maps in zip(photos, *columns)]
    return segment_picture.draw(rows, ("photo", "ground truth", *models), words.classes)


if __name__ == "__main__":
    main()
