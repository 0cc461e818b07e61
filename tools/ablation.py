r"""What the pooling does: the demo's model trained with four of them, same data, same steps, same everything else.

python tools/ablation.py --seeds=5 --output=benchmarks/ablation.json

`make ablation` calls it with one seed. It goes on from whatever `make demo` or an earlier ablation left in `runs/`, run
by run, so that it can be interrupted or done in parts (`--poolings`). The settings of the data and of the training were
chosen on Shapes' `val` lists; the figures are of the `test` lists, which no setting was chosen on. `runs/ablation`
keeps the results of each run with the counts of each image (for `clippy_jax.compare`) and `segments.png`: scenes with
the segments that each pooling finds in them. The table and the JSON are of all runs that have results there.
"""

import json
import pathlib
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import matplotlib.figure  # noqa: E402
import scipy.stats  # noqa: E402

import clippy_jax  # noqa: E402
from clippy_jax.analysis import segment_sheet  # noqa: E402
from clippy_jax.command_line import Parser  # noqa: E402
from clippy_jax.datasets import label_layouts, segmentation_tree  # noqa: E402
from clippy_jax.errors import InputError, exit_with_one_line  # noqa: E402
from clippy_jax.evaluators import (  # noqa: E402
    Evaluator,
    Grouping,
    Segmentation,
    Waterbirds,
    ZeroShotClassification,
    published,
    write_json,
)
from clippy_jax.evaluators.intervals import CONFIDENCE  # noqa: E402
from clippy_jax.evaluators.result import in_percent, markdown, write_results  # noqa: E402
from clippy_jax.inference import Model  # noqa: E402
from clippy_jax.segment import scenes  # noqa: E402
from clippy_jax.weights.parameter_digest import parameter_digest  # noqa: E402
from tools import demo  # noqa: E402

POOLINGS = ("max", "max_with_cls", "avg", "cls")
FOLDER = pathlib.Path("runs/ablation")
BATCH_SIZE = 64
SCENES = 6  # those of the demo's sheet

# Heading of the table → (evaluation, figure)
FIGURES = {
    "accuracy": ("classification", "top1"),
    "mIoU": ("segmentation", "miou"),
    "Jaccard": ("grouping", "jaccard"),
    "gap of the landbird": ("waterbirds", "gap_landbird"),
    "gap of the waterbird": ("waterbirds", "gap_waterbird"),
}


def flags() -> Parser:
    """The program's flags."""
    parser = Parser("python tools/ablation.py", "The demo's model with several poolings, compared over seeds.")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each pooling, with the seeds 0, 1, ... (1)")
    parser.add_argument("--poolings", default=",".join(POOLINGS), help="those to train now, with commas (%(default)s)")
    parser.add_argument(
        "--output", type=pathlib.Path, default=FOLDER / "results.json", help="JSON of the table (%(default)s)"
    )
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs every stage: data, the trainings, their evaluation, the sheet and the table."""
    args = flags().parse_args(arguments)
    poolings = args.poolings.split(",")
    if args.seeds < 1 or set(poolings) - set(POOLINGS):
        raise InputError(f"--seeds must be at least 1 and --poolings some of {','.join(POOLINGS)}")
    demo.render()
    data = json.loads(pathlib.Path(demo.DATA, "dataset.json").read_text())
    evaluators = {
        "classification": ZeroShotClassification(f"{demo.DATA}/imagenet/test"),
        "segmentation": Segmentation(f"{demo.DATA}/voc", split="test"),
        "grouping": Grouping(f"{demo.DATA}/voc", split="test"),
        "waterbirds": Waterbirds(f"{demo.DATA}/waterbirds"),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed in range(args.seeds):
        for pooling in poolings:
            folder = workdir(pooling, seed)
            seconds = demo.train(pooling, folder, seed)
            evaluate(folder, evaluators, FOLDER / f"{pooling}-{seed}.json", seed=seed, data=data, train_seconds=seconds)
    first = {pooling: clippy_jax.load(workdir(pooling, 0)) for pooling in poolings}
    sheet(first).savefig(FOLDER / "segments.png")

    summary = summarise(data)
    write_json(summary, args.output)
    print(f"\n{table(summary)}\n\nThe table's figures: {args.output}\nSegments:            {FOLDER / 'segments.png'}")


def workdir(pooling: str, seed: int) -> str:
    """Where a run lies: of the first seed where `make demo` has it."""
    first = demo.WORKDIRS.get(pooling, f"runs/shapes-{pooling}")
    return first if seed == 0 else f"runs/shapes-{pooling}-seed{seed}"


def evaluate(
    folder: str, evaluators: Mapping[str, Evaluator], path: pathlib.Path, image_size: int = 0, **about: Any
) -> None:
    """Writes everything that the table shows of one run, unless it was measured with these weights on these data.

    Images are fed at `image_size`, or 0 for that of the training.
    """
    model = clippy_jax.load(folder)
    about |= {"checkpoint": folder, "checkpoint_digest": parameter_digest(model.params)}
    if path.exists():
        kept = next(iter(json.loads(path.read_text()).values()))
        if all(kept.get(key) == about[key] for key in ("checkpoint_digest", "data")):
            return
    print(f"\n{folder}", flush=True)
    settings = dict(batch_size=BATCH_SIZE, image_size=image_size or model.image_size, progress=True)
    results = {name: evaluator.run(model, **settings) for name, evaluator in evaluators.items()}
    write_results(results, path, **about)


def summarise(data: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of all runs on the data set, as shares, with their mean and its interval over the seeds.

    A single run has the interval over images instead.
    """
    poolings = {}
    for pooling in POOLINGS:
        runs = [json.loads(path.read_text()) for path in sorted(FOLDER.glob(f"{pooling}-[0-9]*.json"))]
        runs = sorted(
            (run for run in runs if run["waterbirds"]["data"] == data), key=lambda run: run["waterbirds"]["seed"]
        )
        if not runs:
            continue
        figures = {}
        for heading, (evaluation, figure) in FIGURES.items():
            values = [run[evaluation][figure] for run in runs]
            one = runs[0][evaluation]["intervals"][figure]
            figures[heading] = {
                "mean": statistics.fmean(values),
                "interval": list(over_seeds(values)) if len(values) > 1 else one,
                "of_runs": values,
            }
        poolings[pooling] = {
            "seeds": [run["waterbirds"]["seed"] for run in runs],
            "checkpoint_digests": [run["waterbirds"]["checkpoint_digest"] for run in runs],
            "figures": figures,
        }
    return {"data": dict(data), "lists": "test", "confidence": CONFIDENCE, "poolings": poolings}


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """Where the mean over all seeds lies, by Student's t: two values or more."""
    spread = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.fmean(values) - spread, statistics.fmean(values) + spread


def table(summary: Mapping[str, Any]) -> str:
    """A Markdown table in percent: a row for each pooling, then the paper's."""
    rows = []
    for pooling, of in summary["poolings"].items():
        cells = [in_percent(figure["mean"], figure["interval"]) for figure in of["figures"].values()]
        rows.append((pooling, str(len(of["seeds"])), *cells))
    if difference := _cls_less_max(summary["poolings"]):
        rows.append(difference)
    rows += [
        (who, None, *values, None, None) for who, *values in published.rows("pooling", "ImageNet", "VOC", "Jaccard")
    ]
    return markdown(("pooling", "seeds", *FIGURES), rows)


def _cls_less_max(poolings: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What CLIP's pooling has more than the paper's, run by run of the same seed; None without two seeds of both."""
    cls, most = poolings.get("cls"), poolings.get("max")
    if not cls or not most or cls["seeds"] != most["seeds"] or len(cls["seeds"]) < 2:
        return None
    cells = []
    for heading in FIGURES:
        runs = zip(cls["figures"][heading]["of_runs"], most["figures"][heading]["of_runs"])
        differences = [100 * (one - other) for one, other in runs]
        low, high = over_seeds(differences)
        cells.append(f"{statistics.fmean(differences):+.1f} [{low:+.1f}, {high:+.1f}]")
    return "cls less max, by seed", str(len(cls["seeds"])), *cells


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
