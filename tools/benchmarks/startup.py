"""Where the seconds go from the command line of a training to its first step, with its programs compiled beforehand.

The stages are told apart by the lines that a run prints, and imports by `python -X importtime`.
"""

import collections
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from clippy_jax.shapes.dataset import write_dataset
from clippy_jax.shapes.settings import Settings
from tools.benchmarks.progress import Progress
from tools.benchmarks.report import Case, Report, environment
from tools.benchmarks.sides import LARGE_PAGES

SIZES = {"full": (640, 3), "tiny": (64, 1)}  # pairs that are rendered; timed runs
ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("jax", "jaxlib", "flax", "orbax-checkpoint", "tensorflow-cpu")
STAGES = (  # each ends with the first line that begins so; the last with the process
    ("before the first line: the imports, the devices, the data", ""),
    ("to the parameters: the state is initialised", "Parameters: "),
    ("to the first step: traced, its program read, made", "step "),
    ("to the end: saved, everything closed", None),
)
_SHOWN = 0.05  # seconds of a library's imports


class Stage(NamedTuple):
    """One stage of one run."""

    seconds: float
    cpu_seconds: float
    imports: collections.Counter  # seconds by library, of the CPU's and the disk's time


def measure(size: str) -> Report:
    """Starts the training of configs/shapes.py on a small data set once to compile it, and then a few times."""
    pairs, runs = SIZES[size]
    progress, made = Progress(1 + runs), []
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(train_pairs=pairs, evaluation_images=28, image_size=96, pairs_per_shard=pairs)
        write_dataset(pathlib.Path(folder) / "data", settings, workers=1)
        for number in range(1 + runs):
            progress.begin("compiling" if number == 0 else "starting")
            made.append(_start(folder, number))
    fastest = min(made[1:], key=lambda stages: sum(stage.seconds for stage in stages))
    total = sum(stage.seconds for stage in fastest[:-1]), sum(stage.cpu_seconds for stage in fastest[:-1])
    cases = [Case("to the first step", total[0], None, "s"), Case("to the first step", total[1], None, "CPU-seconds")]
    for (name, _), stage in zip(STAGES, fastest):
        cases += [Case(name, stage.seconds, None, "s"), Case(name, stage.cpu_seconds, None, "CPU-seconds")]
        if stage.imports.total() >= _SHOWN:
            cases.append(Case(f"{name}: imports", stage.imports.total(), None, "s"))
    imports = sum((stage.imports for stage in fastest), collections.Counter())
    shown = {name: seconds for name, seconds in imports.most_common() if seconds >= _SHOWN}
    cases += [Case(f"imports of {name}", seconds, None, "s") for name, seconds in shown.items()]
    rest = imports.total() - sum(shown.values())
    cases.append(Case(f"imports of {len(imports) - len(shown)} others", rest, None, "s"))
    return Report(environment("cpu", PACKAGES), cases)


def _start(folder: str, number: int) -> list[Stage]:
    data, last = f"{folder}/data", STAGES[-1]
    command = [sys.executable, "-X", "importtime", "-m", "clippy_jax.main", "--config=configs/shapes.py"]
    command += [f"--workdir={folder}/run{number}", "--config.schedule.stop_step=1"]
    command += [f"--config.input.train={data}/train/00000.tar", f"--config.input.tokenizer={data}/tokenizer"]
    command += ["--config.evals.tasks.imagenet.path=", "--config.evals.tasks.voc.path="]
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    settings = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/programs", "PYTHONUNBUFFERED": "1"}
    stages, imports = [], collections.Counter()
    before = time.perf_counter(), 0.0

    def end(now: tuple[float, float]) -> None:
        nonlocal before, imports
        stages.append(Stage(now[0] - before[0], now[1] - before[1], imports))
        before, imports = now, collections.Counter()

    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | settings | LARGE_PAGES, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        now, text = before, []
        for line in process.stdout:
            now = time.perf_counter(), _cpu_seconds(process.pid)
            text.append(line)
            if module := re.match(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\w+)", line):
                imports[module[2]] += int(module[1]) / 1e6
            elif STAGES[len(stages)] != last and line.startswith(STAGES[len(stages)][1]):
                if not line.startswith("import time:"):
                    end(now)
    if process.returncode != 0 or STAGES[len(stages)] != last:
        sys.exit(f"error: {' '.join(command)}\n" + "".join(text[-20:]))
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = usage.ru_utime + usage.ru_stime - children.ru_utime - children.ru_stime
    end((time.perf_counter(), cpu_seconds))
    return stages


def _cpu_seconds(pid: int) -> float:
    """Of all threads so far, as Linux tells; 0 elsewhere."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
