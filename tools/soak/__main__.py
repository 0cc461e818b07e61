"""Tries every promise about long runs and prints what held.

python -m tools.soak                                  # everything, in about 20 minutes on two idle cores
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

# Before anything imports JAX or TensorFlow.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["HF_HUB_OFFLINE"] = "1"

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
from tools.soak.promises import Outcome, as_json, table  # noqa: E402

PARTS = (taken_away, checkpoints, disks, processes, rotten_data, memory, untrusted, numbers)


def main() -> None:
    """Tries what is asked for and has not been tried."""
    names = [part.__name__.rpartition(".")[2] for part in PARTS]
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(names), help="parts, with commas: " + ", ".join(names))
    parser.add_argument("--again", action="store_true", help="also what --output holds already")
    parser.add_argument("--output", type=pathlib.Path, default="benchmarks/local/soak.json", help="(%(default)s)")
    args = parser.parse_args()
    chosen = args.only.split(",")
    if unknown := set(chosen) - set(names):
        parser.error(f"--only: {', '.join(sorted(unknown))} is no part; the parts are {', '.join(names)}")

    args.output.parent.mkdir(parents=True, exist_ok=True)
    about = environment("CPU", ("jax", "jaxlib", "flax", "orbax-checkpoint", "tensorflow-cpu", "pillow", "transformers"))
    outcomes = {}
    if args.output.exists():
        before = json.loads(args.output.read_text())
        outcomes = {each["promise"]: Outcome(**each) for each in before["promises"]}
    promises = [(name, promise) for name, part in zip(names, PARTS) for promise in part.PROMISES]
    for name, promise in promises:
        if name not in chosen or (promise.text in outcomes and not args.again):
            continue
        folder = pathlib.Path(tempfile.mkdtemp(prefix="clippy_jax_soak_"))
        start = time.monotonic()
        try:
            (folder / "tries").mkdir()
            results = []
            for result in promise.tries(folder / "tries"):
                results.append(result)
                print(f"\r{promise.text}: {len(results):,} tried", end="", file=sys.stderr, flush=True)
        finally:
            print(file=sys.stderr)
            shutil.rmtree(folder, ignore_errors=True)
        outcomes[promise.text] = Outcome.of(name, promise, results, time.monotonic() - start)
        in_order = [outcomes[each.text] for _, each in promises if each.text in outcomes]
        args.output.write_text(json.dumps(as_json(in_order, about), indent=2) + "\n")
    in_order = [outcomes[each.text] for _, each in promises if each.text in outcomes]
    print(table(in_order))
    print(f"\nwritten: {args.output}")
    sys.exit(any(outcome.held < outcome.tried or not outcome.tried for outcome in in_order))


if __name__ == "__main__":
    main()
