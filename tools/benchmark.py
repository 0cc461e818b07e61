"""Our speed beside the PyTorch peer's, the same work in one run: `python tools/benchmark.py step --output=FILE.json`.

    step   the training step of B/16 + T5-base, beside PyTorch, eager and compiled: time, peak memory, share of the
           device's matmul rate; texts of 77 tokens, captions of real lengths, patch dropout, microbatches
    inference   images to embeddings, beside the same
    loss   the contrastive losses, beside eager PyTorch's softmax: time, memory per device
    memory the memory that the step of configs/b16.py needs on each of 8 devices, by the number of microbatches
    segmentation  the memory that segmenting a 2048 x 1024 image among 171 names needs beyond the towers, by protocol
    evaluation  the image tower's share of the time of an evaluation
    scaling  bytes that the step of configs/b16.py sends on 8 to 1,024 devices, and what they cost on V100, H100 and TPU
    choices  layers of the models as this code computes them, beside the plain way
    input  tars of JPEGs to training batches, beside webdataset + Pillow: images per CPU-second, and reading alone
    start  from the command line of a training to its first step: each second, by stage and by library
    device large matrix products and batches sent to the device, beside PyTorch
    gpu    all that a GPU is measured by, as runs of the above; the same command goes on where it stopped

Prints a table and writes JSON: {"environment": {...}, "cases": [{name, ours, peer, ratio (ours / peer), unit, ...}]};
`gpu` writes {"parts": {run: {"seconds", "report" or "error"}}}, with such a report of each run.
"""

import argparse
import importlib
import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from clippy_jax.whole_files import write_text  # noqa: E402
from tools.benchmarks.sides import PEERS  # noqa: E402
from tools.benchmarks.training_step import SETTINGS  # noqa: E402

PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
MODULES = {
    "step": "training_step",
    "inference": "image_inference",
    "loss": "contrastive_loss",
    "memory": "step_memory",
    "segmentation": "segmentation_memory",
    "evaluation": "evaluation_time",
    "scaling": "scaling",
    "choices": "choices",
    "input": "training_input",
    "start": "startup",
    "device": "device",
}


def flags() -> argparse.ArgumentParser:
    """The program's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    step = commands.add_parser("step", help="the training step")
    step.add_argument("--settings", nargs="+", choices=SETTINGS, default=[*SETTINGS][:3], help="default: %(default)s")
    inference = commands.add_parser("inference", help="image inference")
    loss = commands.add_parser("loss", help="the contrastive losses")
    memory = commands.add_parser("memory", help="the training step's memory")
    segmentation = commands.add_parser("segmentation", help="the memory of segmentation, by protocol")
    evaluation = commands.add_parser("evaluation", help="the image tower's share of an evaluation")
    scaling = commands.add_parser("scaling", help="the training step's communication, and its cost on paper")
    scaling.add_argument("--teraflops", type=float, help="a device's peak, for a machine of your own")
    scaling.add_argument("--link_gigabytes_per_second", type=float, help="its slowest link's one direction")
    choices = commands.add_parser("choices", help="choices of the models' code")
    batches = commands.add_parser("input", help="the input pipeline")
    start = commands.add_parser("start", help="the start of a training")
    device = commands.add_parser("device", help="the device alone")
    gpu = commands.add_parser("gpu", help="all that a GPU is measured by")
    gpu.add_argument("--minutes", type=float, default=9.5, help="cut off after so many (default: %(default)s)")
    of_towers = (step, inference, memory, segmentation, evaluation, scaling, choices, device, gpu)
    sizes = dict.fromkeys(of_towers, "b16") | dict.fromkeys((loss, batches, start), "full")
    for command, size in sizes.items():
        command.add_argument("--size", choices=(size, "tiny"), default=size, help="default: %(default)s")
        command.add_argument("--output", type=pathlib.Path, required=True, help="JSON file to write")
    for command, count in ((step, 3), (inference, 5), (loss, 10), (choices, 10), (batches, 16)):
        command.add_argument("--steps", type=int, default=count, help="timed runs (a turn) (default: %(default)s)")
    for command, size in ((step, [8]), (inference, [8, 32]), (batches, [64])):
        many = {"nargs": "+"} if command is inference else {}
        default = size if many else size[0]
        command.add_argument("--batch_size", type=int, default=default, help="default: %(default)s", **many)
    for command in (step, inference, loss, device):
        command.add_argument(
            "--peers", nargs="*", choices=PEERS, default=[*PEERS], help="PyTorch (default: %(default)s)"
        )
    for command in (step, inference):
        command.add_argument("--turns", type=int, help="of each side (default: by size)")
        command.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="default: %(default)s")
    return parser


def main() -> None:
    """Parses the command line, measures, prints and writes the report."""
    parser = flags()
    arguments = vars(parser.parse_args())
    command, output = arguments.pop("command"), arguments.pop("output")
    counts = [arguments.get("steps"), arguments.get("turns"), np.min(arguments.get("batch_size", 1))]
    if min(count for count in counts if count is not None) < 1:
        parser.error("--batch_size, --steps and --turns must be at least 1")
    own = [arguments[name] for name in ("teraflops", "link_gigabytes_per_second") if arguments.get(name) is not None]
    if len(own) == 1 or min(own, default=1) <= 0:
        parser.error("--teraflops and --link_gigabytes_per_second go together and must be positive")
    in_parts = any(setting.endswith("4 microbatches") for setting in arguments.get("settings", ()))
    if in_parts and arguments["batch_size"] % 4:
        parser.error("--batch_size must be a multiple of 4 for 4 microbatches")
    if command == "inference":
        arguments["batch_sizes"] = arguments.pop("batch_size")

    output.parent.mkdir(parents=True, exist_ok=True)
    if command == "gpu":
        _measure_gpu(arguments["size"], output, arguments["minutes"])
        return
    # Each is imported alone: some set the number of devices, some need more packages than others.
    report = importlib.import_module(f"tools.benchmarks.{MODULES[command]}").measure(**arguments)
    print(report.table())
    write_text(output, json.dumps(report.as_json(), indent=2) + "\n")
    print(f"written to {output}")


def _measure_gpu(size: str, output: pathlib.Path, minutes: float) -> None:
    from tools.benchmarks import gpu

    platform, kind = gpu.device()
    if platform == "cpu" and size != "tiny":
        sys.exit("error: JAX sees no GPU here, only a CPU; --size=tiny tries the command out")
    peers = gpu.peers_there(size)
    print(f"{kind}; PyTorch: {', '.join(peers) or 'not installed, or without this device'}", flush=True)
    wanted = gpu.parts(size, peers)
    found = gpu.run_parts(wanted, output, minutes)
    print(gpu.table(found))
    left = sum("report" not in found["parts"].get(part.name, {}) for part in wanted)
    print(f"{len(wanted) - left} of {len(wanted)} runs are in {output}" + "; the same command goes on" * bool(left))


if __name__ == "__main__":
    main()
