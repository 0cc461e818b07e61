r"""What a lower precision does to the training: a configuration trained in float32 and in it, with several seeds.

python tools/precision_curves.py --config=configs/shapes.py --config.schedule.stop_step=500 \
    --workdir=runs/precision --seeds=0,1,2 --output=precision.json

Every run is one of the training program, a `--config.FIELD=VALUE` given here goes to all of them, and the same command
goes on with what is in the workdir. The question is whether the lower precision moves the losses by more than another
seed does: the difference to the float32 run of the same seed (the same initialisation, batches and dropout) stands
beside the standard deviation over the seeds in float32.
"""

import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from clippy_jax.command_line import Parser, on_this_machine  # noqa: E402
from clippy_jax.errors import InputError, exit_with_one_line  # noqa: E402

REFERENCE = "float32"


def flags() -> Parser:
    """The program's flags, beside those of the configuration."""
    parser = Parser("python tools/precision_curves.py", "A training in float32 and in a lower precision, compared.")
    parser.add_argument("--config", required=True, help="configuration file; --config.FIELD=VALUE changes a field")
    parser.add_argument("--workdir", required=True, help="folder of the runs, each in PRECISION-SEED")
    parser.add_argument("--precision", choices=["tensorfloat32", "bfloat16"], default="bfloat16")
    parser.add_argument("--seeds", default="0,1,2", help="of parameters, dropout, order and augmentation (0,1,2)")
    parser.add_argument("--window", type=int, default=50, help="steps over which the losses are averaged (50)")
    parser.add_argument("--output", metavar="FILE.json", type=pathlib.Path, required=True)
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the command, trains, compares, prints the table and writes the JSON."""
    args, overrides = flags().parse_known_args(on_this_machine(sys.argv[1:] if arguments is None else arguments))
    for flag in overrides:
        if not flag.startswith("--config."):
            raise InputError(f"{flag!r} is not a flag; see python tools/precision_curves.py --help")
    seeds = _seeds(args.seeds)
    if args.window < 1:
        raise InputError(f"--window must be at least 1, not {args.window}")
    if args.output.suffix != ".json" or not os.access(args.output.parent, os.W_OK):
        raise InputError(f"--output={args.output} must be a .json file in a folder that can be written to")

    runs: dict[str, dict[int, dict[str, float]]] = {REFERENCE: {}, args.precision: {}}
    for seed in seeds:
        for precision, of_precision in runs.items():
            workdir = pathlib.Path(args.workdir, f"{precision}-{seed}")
            train([f"--config={args.config}", *overrides], workdir, precision, seed)
            of_precision[seed] = figures(workdir, args.window)
    comparison = compare(runs[REFERENCE], runs[args.precision])
    # Imported here, since a device that this process holds is not there for the training.
    import jax

    from clippy_jax.evaluators import write_json

    report = {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "config": args.config,
        "overrides": overrides,
        "precision": args.precision,
        "seeds": seeds,
        "comparison": comparison,
        "runs": runs,
    }
    write_json(report, args.output)
    print(f"\n{table(comparison, args.precision)}\n\nwritten: {args.output}")


def train(flags: Sequence[str], workdir: pathlib.Path, precision: str, seed: int) -> None:
    """One run, from where an earlier one stopped, with the loss of every step in its `metrics.jsonl`."""
    command = ["python", "-m", "clippy_jax.main", *flags, f"--workdir={workdir}", "--config.log_every_steps=1"]
    command += [f"--config.model.precision={precision}", f"--config.seed={seed}", f"--config.input.seed={seed}"]
    print(f"\n$ {shlex.join(command)}", flush=True)
    status = subprocess.run([sys.executable, *command[1:]]).returncode
    if status:
        raise InputError(f"the command above ended with status {status}")


def figures(workdir: pathlib.Path, window: int) -> dict[str, float]:
    """What is compared of a run: the mean loss over every full window of steps, and its last evaluations."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    found = {
        f"loss, steps {first + 1} to {first + window}": statistics.fmean(losses[first : first + window])
        for first in range(0, len(losses) - window + 1, window)
    }
    for line in lines:
        if line["step"] == len(losses):
            found |= {name: value for name, value in line.items() if "/" in name and not name.startswith("skipped/")}
    return found


def compare(
    reference: Mapping[int, Mapping[str, float]], lower: Mapping[int, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """For each figure: the mean over the seeds in either precision, the difference at the same seed (its mean over the
    seeds, and the largest), and the standard deviation over the seeds of the reference (that of a sample).

    Both arguments: seed → name → figure.
    """
    compared = {}
    for name in next(iter(reference.values())):
        exact = [reference[seed][name] for seed in reference]
        rough = [lower[seed][name] for seed in reference]
        differences = [ours - theirs for ours, theirs in zip(rough, exact)]
        compared[name] = {
            "reference": statistics.fmean(exact),
            "lower": statistics.fmean(rough),
            "difference": statistics.fmean(differences),
            "largest_difference": max(differences, key=abs),
            "deviation_over_seeds": statistics.stdev(exact),
        }
    return compared


def table(comparison: Mapping[str, Mapping[str, float]], precision: str) -> str:
    """The comparison as a Markdown table."""
    from clippy_jax.evaluators.result import markdown

    header = ("", REFERENCE, precision, "difference, same seed", "largest", "deviation over seeds")
    rows = []
    for name, values in comparison.items():
        shown = [f"{values[key]:.4f}" for key in ("reference", "lower")]
        shown += [f"{values[key]:+.4f}" for key in ("difference", "largest_difference")]
        rows.append((name, *shown, f"{values['deviation_over_seeds']:.4f}"))
    return markdown(header, rows)


def _seeds(text: str) -> list[int]:
    seeds = text.split(",")
    if not all(seed.isdigit() for seed in seeds) or len(set(seeds)) < max(2, len(seeds)):
        raise InputError(f"--seeds={text} must be two or more different numbers with commas, for example 0,1,2")
    return [int(seed) for seed in seeds]


if __name__ == "__main__":
    main()
