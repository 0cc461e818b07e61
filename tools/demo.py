"""The whole road on a laptop: data → training → evaluation → segments, each by the command that a user would type.

`make demo` calls it. The model is trained with `max` pooling, the paper's, and once more with `cls` pooling, CLIP's, on
the same data for as many steps, so that the difference that pooling makes stands side by side.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from clippy_jax.evaluators import write_json  # noqa: E402

DATA = "data/shapes"
WORKDIRS = {"max": "runs/shapes", "cls": "runs/shapes-cls"}
RESULTS = pathlib.Path(WORKDIRS["max"]) / "results.json"
SEGMENTS = pathlib.Path(WORKDIRS["max"]) / "segments.png"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs every stage, then writes `runs/shapes/results.json`: both models' figures and the seconds a stage took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--install_seconds", type=int, required=True, help="what `make` needed for the installation")
    seconds = {"install": parser.parse_args(arguments).install_seconds}
    RESULTS.unlink(missing_ok=True)

    seconds["data"] = render()
    for pooling, workdir in WORKDIRS.items():
        seconds[f"train {pooling}"] = train(pooling, workdir)
        seconds[f"evaluate {pooling}"] = run(
            "clippy_jax.evaluate",
            f"--checkpoint={workdir}",
            f"--imagenet={DATA}/imagenet/val",
            f"--voc={DATA}/voc",
            f"--output={workdir}/evaluation.json",
        )
    seconds["segment"] = run(
        "clippy_jax.segment",
        f"--checkpoint={WORKDIRS['max']}",
        f"--voc={DATA}/voc",
        "--count=6",
        f"--output={SEGMENTS}",
    )

    figures = {
        pooling: json.loads(pathlib.Path(workdir, "evaluation.json").read_text())
        for pooling, workdir in WORKDIRS.items()
    }
    write_json({"pooling": figures, "seconds": seconds}, RESULTS)
    print(f"\nFigures and times: {RESULTS}\nSegments:          {SEGMENTS}")


def render() -> float:
    """Renders Shapes unless it is there; returns the seconds that took."""
    return run("clippy_jax.shapes", f"--output={DATA}")


def train(pooling: str, workdir: str, seed: int = 0, *flags: str) -> float:
    """Trains a model with a pooling, from where an earlier run of it stopped; returns the seconds that took."""
    flags = (f"--workdir={workdir}", f"--config.model.pooling={pooling}", *flags)
    if seed:
        flags += (f"--config.seed={seed}", f"--config.input.seed={seed}")
    return run("clippy_jax.main", "--config=configs/shapes.py", *flags)


def run(module: str, *flags: str) -> float:
    """Runs one command of the package, showing it; returns the seconds it took. A failure ends the demo."""
    command = ["python", "-m", module, *flags]
    print(f"\n$ {shlex.join(command)}", flush=True)
    start = time.monotonic()
    status = subprocess.run([sys.executable, *command[1:]]).returncode
    if status:
        print(f"error: the command above ended with status {status}", file=sys.stderr)
        sys.exit(1)
    return round(time.monotonic() - start, 1)


if __name__ == "__main__":
    main()
