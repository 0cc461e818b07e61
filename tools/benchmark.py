"""Our speed beside the PyTorch peer's, the same work in one run: `python tools/benchmark.py step --output=FILE.json`.

    step   the training step of B/16 + T5-base, beside eager PyTorch: time, peak memory, compile time
    loss   the contrastive losses, beside eager PyTorch's softmax: time, memory per device
    memory the memory that the step of configs/b16.py needs on each of 8 devices, by the number of microbatches
    input  tars of JPEGs to training batches, beside webdataset + Pillow: images per CPU-second, and reading alone

Prints a table and writes JSON: {"environment": {...}, "cases": [{name, ours, peer, ratio (ours / peer), unit, ...}]}.
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools.benchmarks import training_input, training_step  # noqa: E402


def main() -> None:
    """Parses the command line, measures, prints and writes the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    step = commands.add_parser("step", help="the training step")
    step.add_argument("--size", choices=training_step.SIZES, default="b16", help="towers (default: %(default)s)")
    step.add_argument("--batch_size", type=int, default=8, help="pairs in a batch (default: %(default)s)")
    step.add_argument("--steps", type=int, default=3, help="timed steps a turn, of two (default: %(default)s)")
    step.add_argument(
        "--rematerialise",
        choices=("off", "on", "both"),
        default="both",
        help="gradient checkpointing, on both sides alike (default: %(default)s)",
    )
    batches = commands.add_parser("input", help="the input pipeline")
    batches.add_argument("--size", choices=training_input.SIZES, default="full", help="data (default: %(default)s)")
    batches.add_argument("--batch_size", type=int, default=64, help="pairs in a batch (default: %(default)s)")
    batches.add_argument("--steps", type=int, default=16, help="timed batches (default: %(default)s)")
    loss = commands.add_parser("loss", help="the contrastive losses")
    loss.add_argument("--size", choices=("full", "tiny"), default="full", help="features (default: %(default)s)")
    loss.add_argument("--steps", type=int, default=10, help="timed evaluations (default: %(default)s)")
    memory = commands.add_parser("memory", help="the training step's memory")
    memory.add_argument("--size", choices=("b16", "tiny"), default="b16", help="recipe (default: %(default)s)")
    for command in (step, loss, memory, batches):
        command.add_argument("--output", type=pathlib.Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    size, batch_size, steps = arguments.size, getattr(arguments, "batch_size", 1), getattr(arguments, "steps", 1)
    if min(batch_size, steps) < 1:
        parser.error("--batch_size and --steps must be at least 1")

    if arguments.command == "step":
        rematerialise = {"off": [False], "on": [True], "both": [False, True]}[arguments.rematerialise]
        report = training_step.measure(size, batch_size, steps, rematerialise)
    elif arguments.command == "loss":
        from tools.benchmarks import contrastive_loss  # which sets the number of devices

        report = contrastive_loss.measure(size, steps)
    elif arguments.command == "memory":
        from tools.benchmarks import step_memory  # likewise

        report = step_memory.measure(size)
    else:
        report = training_input.measure(size, batch_size, steps)
    print(report.table())
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = arguments.output.with_name(arguments.output.name + ".unfinished")
    unfinished.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    unfinished.replace(arguments.output)
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
