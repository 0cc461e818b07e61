r"""Which towers learn, and of how many tokens: the paper's Tables 7 and 10 in miniature, on Shapes.

python tools/frozen_towers.py --output=benchmarks/frozen_towers.json

In the place of DINO and Sentence-T5 stand the towers of a CLIP (`cls` pooling) that is trained first, on scenes and
captions of another seed. The demo's model starts from them, with `max` pooling, and learns for as many steps with both
towers, with one of them frozen, and with every token of images of half the size (36) in the place of 17 of 144 tokens,
as the paper compares the two. The figures are of Shapes' `test` lists, which nothing was chosen on, with intervals over
their images. What `runs/` has of an earlier call is kept.
"""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from clippy_jax.command_line import Parser  # noqa: E402
from clippy_jax.errors import InputError, exit_with_one_line  # noqa: E402
from clippy_jax.evaluators import Segmentation, ZeroShotClassification, published, write_json  # noqa: E402
from clippy_jax.evaluators.intervals import CONFIDENCE  # noqa: E402
from clippy_jax.evaluators.result import in_percent, markdown  # noqa: E402
from tools import ablation, demo  # noqa: E402

FOLDER = pathlib.Path("runs/frozen_towers")
OTHERS = "data/shapes-others"  # the scenes that the towers start from
START = "runs/shapes-start"
SIZE, HALF = 96, 48  # pixels of the demo's images
TRAININGS = {
    "both towers learn": (),
    "frozen image tower": ("--config.optimizer.freeze=('image',)",),
    "frozen text tower": ("--config.optimizer.freeze=('text',)",),
    "every token": (
        "--config.model.image.patch_dropout=0.0",
        f"--config.model.image.image_size={HALF}",
        f"--config.input.image_size={HALF}",
    ),
}
# Row of the table → (training, pixels of the images that are measured)
ROWS = {
    "both towers learn, of 17 of 144 tokens": ("both towers learn", SIZE),
    "frozen image tower": ("frozen image tower", SIZE),
    "frozen text tower": ("frozen text tower", SIZE),
    f"every token of {HALF} pixels, measured at {HALF}": ("every token", HALF),
    f"every token of {HALF} pixels, measured at {SIZE}": ("every token", SIZE),
}
FIGURES = {"accuracy": ("classification", "top1"), "mIoU": ("segmentation", "miou")}


def flags() -> Parser:
    """The program's flags."""
    parser = Parser("python tools/frozen_towers.py", "The demo's model with frozen towers and with every token.")
    parser.add_argument("--steps", type=int, default=800, help="of each training (%(default)s)")
    parser.add_argument(
        "--output", type=pathlib.Path, default=FOLDER / "results.json", help="JSON of the table (%(default)s)"
    )
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs every stage: data, the towers to start from, the trainings, their evaluation and the table."""
    args = flags().parse_args(arguments)
    if args.steps < 1:
        raise InputError(f"--steps={args.steps} must be at least 1")
    demo.render()
    data = json.loads(pathlib.Path(demo.DATA, "dataset.json").read_text())
    evaluators = {
        "classification": ZeroShotClassification(f"{demo.DATA}/imagenet/test"),
        "segmentation": Segmentation(f"{demo.DATA}/voc", split="test"),
    }
    schedule = {"warmup_steps": args.steps // 8, "decay_steps": args.steps, "stop_step": args.steps}
    common = [f"--config.schedule.{name}={value}" for name, value in schedule.items()]
    common += [f"--config.evals.tasks.{name}.path=" for name in ("imagenet", "voc")]
    demo.run("clippy_jax.shapes", f"--output={OTHERS}", "--seed=1")
    demo.train("cls", START, 0, *common, f"--config.input.train={OTHERS}/train/{{00000..00009}}.tar")
    common += [f"--config.init.{tower}={START}" for tower in ("image", "text")]
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, chosen in TRAININGS.items():
        demo.train("max", workdir(name), 0, *common, *chosen)
    rows = {}
    for row, (name, size) in ROWS.items():
        place = FOLDER / f"{name.replace(' ', '-')}-{size}.json"
        ablation.evaluate(workdir(name), evaluators, place, size, data=data)
        measured = json.loads(place.read_text())
        figures = {
            heading: {"value": measured[task][figure], "interval": measured[task]["intervals"][figure]}
            for heading, (task, figure) in FIGURES.items()
        }
        rows[row] = {"checkpoint_digest": measured["segmentation"]["checkpoint_digest"], "figures": figures}
    summary = {"data": data, "lists": "test", "steps": args.steps, "confidence": CONFIDENCE, "rows": rows}
    write_json(summary, args.output)
    print(f"\n{table(summary)}\n\nThe table's figures: {args.output}")


def workdir(name: str) -> str:
    """Where a training lies."""
    return f"runs/shapes-{name.replace(' ', '-')}"


def table(summary: Mapping[str, Any]) -> str:
    """A Markdown table in percent: ours, then the paper's."""
    rows = [
        (name, *(in_percent(figure["value"], figure["interval"]) for figure in row["figures"].values()))
        for name, row in summary["rows"].items()
    ]
    of_paper = [row for name in ("freezing", "sub_sampling") for row in published.rows(name, "ImageNet", "VOC")]
    return markdown(("training", *FIGURES), rows + of_paper)


if __name__ == "__main__":
    main()
