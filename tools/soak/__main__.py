"""Tries every promise about long runs and prints what held.

python -m tools.soak                                  # everything, in about 11 minutes on two idle cores
python -m tools.soak --only=taken_away --again        # the promises of a part, also where they were tried before

Each promise's outcome is written to --output as soon as it is known, so a soak that was stopped goes on where it was.
"""

import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from types import ModuleType

from tests.xla_flags import xla_flags

if __name__ == "__main__":  # before anything imports JAX or TensorFlow; who imports this module has settings of its own
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # which TensorFlow would say that it has
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["XLA_FLAGS"] = xla_flags(devices=1)

from tools.benchmarks.report import environment  # noqa: E402
from tools.soak import (  # noqa: E402
    checkpoints,
    disks,
    memory,
    numbers,
    processes,
    rotten_data,
    taken_away,
    untrusted,
)
from tools.soak.promises import Outcome, Promise, as_json, read_outcomes, table  # noqa: E402

PARTS = (taken_away, checkpoints, disks, processes, rotten_data, memory, untrusted, numbers)
PACKAGES = ("jax", "jaxlib", "flax", "orbax-checkpoint", "tensorflow-cpu", "pillow", "transformers")


def main(arguments: Sequence[str] | None = None, parts: Sequence[ModuleType] = PARTS) -> int:
    """Tries what is asked for and has not been tried; returns whether something did not hold, as an exit status."""
    names = [part.__name__.rpartition(".")[2] for part in parts]
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(names), help="parts, with commas: " + ", ".join(names))
    parser.add_argument("--again", action="store_true", help="also what --output holds already")
    parser.add_argument("--output", type=pathlib.Path, default="benchmarks/local/soak.json", help="(%(default)s)")
    args = parser.parse_args(arguments)
    chosen = args.only.split(",")
    if unknown := set(chosen) - set(names):
        parser.error(f"--only: {', '.join(sorted(unknown))} is no part; the parts are {', '.join(names)}")

    args.output.parent.mkdir(parents=True, exist_ok=True)
    outcomes = read_outcomes(args.output)
    promises = [(name, promise) for name, part in zip(names, parts) for promise in part.PROMISES]
    # What promises have in common (a small data set, uninterrupted runs) lies beside the folders of their tries.
    with tempfile.TemporaryDirectory(prefix="clippy_jax_soak_", ignore_cleanup_errors=True) as folder:
        for number, (name, promise) in enumerate(promises):
            if name in chosen and (args.again or promise.text not in outcomes):
                outcomes[promise.text] = _tried(name, promise, pathlib.Path(folder) / str(number))
                in_order = [outcomes[each.text] for _, each in promises if each.text in outcomes]
                about = environment("CPU", PACKAGES)
                args.output.write_text(json.dumps(as_json(in_order, about), indent=2) + "\n")
    in_order = [outcomes[each.text] for _, each in promises if each.text in outcomes]
    print(table(in_order))
    print(f"\n{len(in_order)} of {len(promises)} promises tried; written: {args.output}")
    return int(any(outcome.held < outcome.tried or not outcome.tried for outcome in in_order))


def _tried(part: str, promise: Promise, folder: pathlib.Path) -> Outcome:
    """Tries a promise in a folder of its own, and tells how far it has come."""
    start, results = time.monotonic(), []
    folder.mkdir()
    for result in promise.tries(folder):
        results.append(result)
        print(f"\r{promise.text}: {len(results):,} tried", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    return Outcome.of(part, promise, results, time.monotonic() - start)


if __name__ == "__main__":
    sys.exit(main())
