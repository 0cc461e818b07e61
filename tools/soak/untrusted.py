"""Damaged and hostile inputs for every reader, by the thousand."""

import functools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

from tests.fuzz import evaluation_data, settings, training_data, weights
from tests.fuzz.faults import MEGABYTES, SECONDS, Target, faults
from tools.soak.promises import Promise

TARGETS = (*training_data.TARGETS, *evaluation_data.TARGETS, *settings.TARGETS, *weights.TARGETS)
_FIRST_SEED = 1_000_000  # beyond those of the suite
# Of readers that take some milliseconds an input; the others get the rest.
_SLOW = {"lock": 100, "override": 600, "PyTorch file": 600, "whole CLIPpy": 400, "folder of weights": 500}
_TRIES = 1000


def _tries(target: Target, folder: pathlib.Path) -> Iterator[str]:
    """Reads in a process of its own, which a crash would end."""
    count = _SLOW.get(target.name, _TRIES)
    command = [sys.executable, "-m", "tools.soak.untrusted", target.name, str(count), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        yield f"the process ended with {done.returncode}: {done.stderr[-300:]}"
        return
    found = json.loads(done.stdout.splitlines()[-1])
    yield from found
    yield from [""] * (count - len(found))


def _main(name: str, count: str, folder: str) -> None:
    target = next(target for target in TARGETS if target.name == name)
    seeds = range(_FIRST_SEED, _FIRST_SEED + int(count))
    print(json.dumps(list(faults(target, seeds, pathlib.Path(folder)))))


PROMISES = tuple(
    Promise(
        f"whatever is in {target.name}: it is read, or refused in one line",
        f"inputs drawn from seeds, each within {SECONDS:.0f} s and {MEGABYTES} MB; no other exception, no crash",
        functools.partial(_tries, target),
    )
    for target in TARGETS
)

if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    _main(*sys.argv[1:])
