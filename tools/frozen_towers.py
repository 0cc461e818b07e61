r"""Which towers learn, and of how many tokens: the paper's Tables 7 and 10 in miniature, on Shapes.

python tools/frozen_towers.py --output=benchmarks/frozen_towers.json

In the place of DINO and Sentence-T5 stand the towers of a CLIP (`cls` pooling) that is trained first, on scenes and
captions of another seed. The demo's model starts from them, with `max` pooling, and learns for as many steps with both
towers, with one of them frozen, and with every patch token in the place of 17 of 144. The figures are of Shapes' `test`
lists, which nothing was chosen on, with intervals over their images. What `runs/` has of an earlier call is kept.
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
from clippy_jax.evaluators.result import markdown  # noqa: E402
from tools import ablation, demo  # noqa: E402

FOLDER = pathlib.Path("runs/frozen_towers")
OTHERS = "data/shapes-others"  # the scenes that the towers start from
START = "runs/shapes-start"
BOTH = "both towers learn"
FLAGS = {
    BOTH: (),
    "frozen image tower": ("--config.optimizer.freeze=('image',)",),
    "frozen text tower": ("--config.optimizer.freeze=('text',)",),
    "every token": ("--config.model.image.patch_dropout=0.0",),
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
    common = [f"--config.schedule.{name}={args.steps}" for name in ("decay_steps", "stop_step")]
    common += [f"--config.evals.tasks.{name}.path=" for name in ("imagenet", "voc")]
    demo.run("clippy_jax.shapes", f"--output={OTHERS}", "--seed=1")
    demo.train("cls", START, 0, *common, f"--config.input.train={OTHERS}/train/{{00000..00009}}.tar")
    common += [f"--config.init.{tower}={START}" for tower in ("image", "text")]
    FOLDER.mkdir(parents=True, exist_ok=True)
    trainings = {}
    for name, chosen in FLAGS.items():
        folder = f"runs/shapes-{name.replace(' ', '-')}"
        seconds = demo.train("max", folder, 0, *common, *chosen)
        place = FOLDER / f"{name.replace(' ', '-')}.json"
        ablation.evaluate(folder, evaluators, place, data=data, train_seconds=seconds)
        measured = json.loads(place.read_text())
        trainings[name] = {
            "checkpoint_digest": measured["segmentation"]["checkpoint_digest"],
            "train_seconds": measured["segmentation"]["train_seconds"],
            "figures": {
                heading: {"value": measured[task][figure], "interval": measured[task]["intervals"][figure]}
                for heading, (task, figure) in FIGURES.items()
            },
        }
    summary = {"data": data, "lists": "test", "steps": args.steps, "confidence": CONFIDENCE, "trainings": trainings}
    write_json(summary, args.output)
    print(f"\n{table(summary)}\n\nThe table's figures: {args.output}")


def table(summary: Mapping[str, Any]) -> str:
    """A Markdown table in percent: a row for each training, then the paper's."""
    rows = []
    for name, training in summary["trainings"].items():
        figures = [(of["value"], *of["interval"]) for of in training["figures"].values()]
        rows.append((name, *(f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]" for value, low, high in figures)))
    of_paper = [row for name in ("freezing", "sub_sampling") for row in published.rows(name, "ImageNet", "VOC")]
    return markdown(("training", *FIGURES), rows + of_paper)


if __name__ == "__main__":
    main()
