"""Damaged and hostile inputs for every reader, by the thousand."""

import functools
import multiprocessing
import os
import pathlib
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection

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
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tools.soak.__main__"])  # the readers' libraries are imported once
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_read, args=(TARGETS.index(target), count, folder, sender))
    process.start()
    sender.close()
    try:
        found = receiver.recv()
    except EOFError:
        process.join()
        yield f"the process ended with {process.exitcode}"
        return
    process.join()
    yield from found
    yield from [""] * (count - len(found))


def _read(number: int, count: int, folder: pathlib.Path, results: Connection) -> None:
    with open(os.devnull, "w") as nowhere:  # libraries in C print about what is damaged
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    warnings.simplefilter("ignore")
    results.send(list(faults(TARGETS[number], range(_FIRST_SEED, _FIRST_SEED + count), folder)))


PROMISES = tuple(
    Promise(
        f"whatever is in {target.name}: it is read, or refused in one line",
        f"inputs drawn from seeds, each within {SECONDS:.0f} s and {MEGABYTES} MB; no other exception, no crash",
        functools.partial(_tries, target),
    )
    for target in TARGETS
)
