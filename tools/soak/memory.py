"""What a long run takes from the machine: memory, file descriptors, threads."""

import collections
import itertools
import json
import pathlib
import statistics
import threading
import time
from collections.abc import Iterator

from tools.soak import runs
from tools.soak.programs import Program
from tools.soak.promises import Promise

STEPS = 2000
_SHORT = 400
_FLAT = 0.03  # relative to the middle value
_WARM_UP = 0.25  # share of the steps

# A short run, a long one and a short one in the same process, with what the process has open after each.
_RUNS = """
import gc, json, os, pathlib, sys
from clippy_jax.train import train_and_evaluate
from tests import small_run
data, folder, short, steps = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def left():
    gc.collect()
    names = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
    return {"file descriptors": os.listdir("/proc/self/fd"), "threads": sorted(names)}
after = []
for name, stop in (("short", short), ("long", steps), ("again", short)):
    config = small_run.config(data, schedule__stop_step=stop, schedule__decay_steps=steps, log_every_steps=10,
                              checkpoint__every_steps=100, checkpoint__every_minutes=0.0, checkpoint__keep=2,
                              evals__tasks__imagenet__path=f"{data}/imagenet/val",
                              evals__tasks__imagenet__every_steps=200)
    train_and_evaluate(config, f"{folder}/{name}")
    after.append(left())
print(json.dumps(after))
"""


class Watch:
    """Samples of a process's memory, descriptors and threads while it runs."""

    def __init__(self, program: Program):
        """Begins to look, twenty times a second."""
        self._folder = pathlib.Path(f"/proc/{program.pid}")
        self.program = program
        self.samples: list[tuple[int, int, int, int]] = []  # step, kilobytes, descriptors, threads
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:  # until it is gone
            try:
                status = dict(
                    line.split(":", 1) for line in (self._folder / "status").read_text().splitlines() if ":" in line
                )
                descriptors = len(list((self._folder / "fd").iterdir()))
                kilobytes, threads = int(status["VmRSS"].split()[0]), int(status["Threads"])
            except (OSError, KeyError):
                return
            self.samples.append((last_step(self.program), kilobytes, descriptors, threads))
            time.sleep(0.05)

    def spread(self, column: int, first_step: int, last: int) -> tuple[float, float]:
        """How far the lowest and the highest of ten equal parts of the run lie from the middle value.

        The value of a part is the lower quartile of its samples: a fast run spends much of its time on checkpoints,
        which take threads and files for a moment, and what leaks is there between them as well.
        """
        within = [sample for sample in self.samples if first_step <= sample[0] < last]
        parts = [within[len(within) * i // 10 : len(within) * (i + 1) // 10] for i in range(10)]
        if len(parts[0]) < 2:
            return float("nan"), float("nan")
        values = [statistics.quantiles((sample[column] for sample in part), n=4)[0] for part in parts]
        middle = statistics.median(values)
        return min(values) / middle - 1, max(values) / middle - 1


def last_step(program: Program) -> int:
    """The step that a run has told last; 0 before the first."""
    for line in reversed(program.lines[-20:]):
        if line.startswith("step ") and "loss" in line:
            return int(line[5:].split("/")[0].replace(",", ""))
    return 0


def _flat(folder: pathlib.Path) -> Iterator[str]:
    data = folder.parent / "data"
    runs.flags(folder.parent)  # renders the data
    program = Program(["-c", _RUNS, str(data), str(folder), str(_SHORT), str(STEPS)])
    program.wait_for(f"step {_SHORT}/{_SHORT}")
    watch = Watch(program)
    ended = program.finish(600)
    if ended.status:
        yield ended.last_line
        return
    for column, name in ((1, "memory"), (2, "file descriptors"), (3, "threads")):
        low, high = watch.spread(column, int(_WARM_UP * STEPS), STEPS)
        flat = -_FLAT <= low and high <= _FLAT
        yield "" if flat else f"{name}: {100 * low:+.1f} % to {100 * high:+.1f} %"
    first, *_, last = left = json.loads(ended.output.splitlines()[-1])
    for name in first:
        more = collections.Counter(last[name]) - collections.Counter(first[name])
        counts = [len(after[name]) for after in left]
        # A leak grows with every run. A library's pool of threads may still be filling up in one of them.
        grows = all(before < after for before, after in itertools.pairwise(counts))
        yield f"{name} after each run: {counts}, at the end {dict(more)} more" if grows else ""


PROMISES = (
    Promise(
        "memory, file descriptors and threads of a long run are flat, and returned at its end",
        f"{STEPS:,} steps with 20 checkpoints and 10 evaluations; within 3 % of their middle value from step "
        f"{int(_WARM_UP * STEPS):,} on; three runs in the same process, of {_SHORT}, {STEPS:,} and {_SHORT}, "
        "do not each leave more than the one before",
        _flat,
    ),
)
