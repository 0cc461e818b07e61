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

import matplotlib.figure  # noqa: E402

import clippy_jax  # noqa: E402
from clippy_jax.analysis import segment_sheet  # noqa: E402
from clippy_jax.datasets import label_layouts, segmentation_tree  # noqa: E402
from clippy_jax.evaluators import (  # noqa: E402
    Evaluator,
    Grouping,
    Result,
    Segmentation,
    Waterbirds,
    ZeroShotClassification,
    write_json,
)
from clippy_jax.evaluators.result import markdown, percent  # noqa: E402
from clippy_jax.inference import Model  # noqa: E402
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
SCENES = 6  # those of the demo's sheet

# (pooling, ImageNet top-1, VOC mIoU, VOC Jaccard): the paper's ablation of the pooling, CC-12M
PUBLISHED = (
    ("paper, max", 42.3, 50.8, 47.5),
    ("paper, avg", 44.0, 11.6, 38.1),
    ("paper, cls", 46.0, 4.0, 40.4),
)


def main() -> None:
    """Runs every stage: data, four trainings, their evaluation, the sheet and the table."""
    seconds = {"data": demo.render()}
    for pooling, workdir in WORKDIRS.items():
        seconds[f"train {pooling}"] = demo.train(pooling, workdir)

    OUTPUT.mkdir(parents=True, exist_ok=True)
    evaluators = {
        "classification": ZeroShotClassification(f"{demo.DATA}/imagenet/val"),
        "segmentation": Segmentation(f"{demo.DATA}/voc"),
        "grouping": Grouping(f"{demo.DATA}/voc"),
        "waterbirds": Waterbirds(f"{demo.DATA}/waterbirds"),
    }
    results, figures, models = {}, {}, {}
    for pooling, workdir in WORKDIRS.items():
        print(f"\n{workdir}", flush=True)
        start = time.monotonic()
        model = models[pooling] = clippy_jax.load(workdir)
        results[pooling] = evaluate(model, evaluators)
        checkpoint = {"checkpoint": workdir, "checkpoint_digest": parameter_digest(model.params)}
        figures[pooling] = {name: checkpoint | result.as_json() for name, result in results[pooling].items()}
        seconds[f"evaluate {pooling}"] = round(time.monotonic() - start, 1)
    sheet(models).savefig(OUTPUT / "segments.png")

    write_json({"pooling": figures, "seconds": seconds}, OUTPUT / "results.json")
    print(f"\n{table(results)}")
    print(f"\nFigures and times: {OUTPUT / 'results.json'}\nSegments:          {OUTPUT / 'segments.png'}")


def evaluate(model: Model, evaluators: Mapping[str, Evaluator]) -> dict[str, Result]:
    """Everything that the table shows of one model, on Shapes' held-out scenes."""
    settings = dict(batch_size=BATCH_SIZE, image_size=model.image_size, progress=True)
    return {name: evaluator.run(model, **settings) for name, evaluator in evaluators.items()}


def table(results: Mapping[str, Mapping[str, Result]]) -> str:
    """A Markdown table in percent: a row for each pooling, then the paper's."""
    rows = []
    for pooling, of in results.items():
        shares = of["classification"].top1, of["segmentation"].miou, of["grouping"].jaccard
        gaps = of["waterbirds"].domain_gap
        rows.append((pooling, *map(percent, (*shares, *gaps.values()))))
    rows += [(*row, *[None] * len(gaps)) for row in PUBLISHED]
    return markdown(("pooling", "accuracy", "mIoU", "Jaccard", *(f"gap of the {bird}" for bird in gaps)), rows)


def sheet(models: Mapping[str, Model]) -> matplotlib.figure.Figure:
    """A row for each scene: the image, the ground truth and what each pooling makes of it."""
    tree = segmentation_tree.read(f"{demo.DATA}/voc", label_layouts.VOC)
    words = tree.vocabulary
    images, truths = scenes(tree, SCENES)
    columns = [truths]
    for model in models.values():
        classes = model.class_embeddings([[prompt] for prompt in words.prompts], for_patches=True)
        columns.append([model.name_pixels(image, classes, len(words.classes)) for image in images])
    rows = [segment_sheet.Row(image, maps) for image, *maps in zip(images, *columns)]
    return segment_sheet.draw(rows, ("image", "ground truth", *models), words.classes)


if __name__ == "__main__":
    main()
