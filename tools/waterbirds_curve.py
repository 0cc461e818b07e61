r"""Waterbirds accuracy against resolution, as the paper's figure shows it: a JSON file and a plot beside it.

python tools/waterbirds_curve.py --checkpoint=clippy_5k --checkpoint=runs/b16 \
    --waterbirds=/data/waterbird_complete95_forest2water2 --image_sizes=224,336,448 --output=curve.json
"""

import os
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from clippy_jax.command_line import Parser  # noqa: E402
from clippy_jax.config import check_image_size  # noqa: E402
from clippy_jax.errors import InputError, exit_with_one_line  # noqa: E402


def flags() -> Parser:
    """The program's flags."""
    parser = Parser("python tools/waterbirds_curve.py", "Waterbirds accuracy against resolution: JSON and plot.")
    parser.add_argument("--checkpoint", action="append", required=True, help="of a model; repeat it for more panels")
    parser.add_argument("--tokenizer", help="Sentence-T5 folder, for checkpoints that carry none")
    parser.add_argument("--waterbirds", metavar="DIR", required=True, help="Waterbirds tree with metadata.csv")
    parser.add_argument("--image_sizes", required=True, help="pixels along each side, with commas: 224,336,448")
    parser.add_argument(
        "--choices", choices=["two-way", "three-way"], default="three-way", help="with background or not"
    )
    parser.add_argument("--batch_size", type=int, default=64, help="images a step over all devices")
    parser.add_argument("--output", metavar="FILE.json", required=True, help="the plot gets the same name and .png")
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the command, evaluates every model at every resolution, prints the tables, writes both files."""
    args = flags().parse_args(arguments)
    sizes = _sizes(args.image_sizes)
    output = pathlib.Path(args.output)
    if output.suffix != ".json" or not os.access(output.parent, os.W_OK):
        raise InputError(f"--output={output} must be a .json file in a folder that can be written to")
    if len(set(args.checkpoint)) < len(args.checkpoint):
        raise InputError("--checkpoint names one model more than once")
    # Imported here so that a wrong command is answered at once.
    from clippy_jax.analysis import resolution_curve
    from clippy_jax.evaluators import Waterbirds, write_json
    from clippy_jax.inference import load_model
    from clippy_jax.weights.parameter_digest import parameter_digest

    evaluator = Waterbirds(args.waterbirds, args.choices)
    curves, figures = {}, {}
    for checkpoint in args.checkpoint:
        model = load_model(checkpoint, args.tokenizer)
        for size in sizes:
            check_image_size(size, model.config.image, "--image_sizes")
        results = [evaluator.run(model, batch_size=args.batch_size, image_size=size, progress=True) for size in sizes]
        curves[checkpoint] = {result.image_size: result.cells for result in results}
        of_model = {"checkpoint": checkpoint, "checkpoint_digest": parameter_digest(model.params)}
        for result in results:
            print(f"\n{checkpoint}\n{result.report()}")
        figures[checkpoint] = [of_model | result.as_json() for result in results]
    write_json(figures, output)
    resolution_curve.draw(curves).savefig(output.with_suffix(".png"), dpi=150)
    print(f"\nwritten: {output} and {output.with_suffix('.png')}")


def _sizes(text: str) -> list[int]:
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise InputError(f"--image_sizes={text} must be whole numbers with commas, for example 224,336,448")
    return sorted({int(part) for part in text.split(",")})


if __name__ == "__main__":
    main()
