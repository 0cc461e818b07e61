"""Everything that a GPU is measured by, as one list of runs of the other benchmarks, written after each of them.

A run that fails leaves its error line and the rest go on. Runs that a file holds already are not made again, so that a
card lent for ten minutes at a time comes to all of them; those that failed are tried once more, after the others.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from clippy_jax.whole_files import write_text
from tools.benchmarks.progress import Progress

BENCHMARK = pathlib.Path(__file__).parents[1] / "benchmark.py"
LONG, NO_DROPOUT, PLAIN, REMATERIALISED = (
    "texts of 77 tokens", "no attention dropout", "plain attention", "rematerialised"
)  # fmt: skip
# As a run compiles (`clippy_jax/run/compilation.py`), and with nearly all of the memory: no other process needs it.
ENVIRONMENT = {"JAX_OPTIMIZATION_LEVEL": "O1", "XLA_CLIENT_MEM_FRACTION": "0.92"}
_OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "OutOfMemory")


class Part(NamedTuple):
    """One run of `tools/benchmark.py`."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = {}
    grows: str = ""  # parts of one such word need more and more memory: when one does not fit, the others are left out

    @property
    def name(self) -> str:
        """What the file calls it."""
        return " ".join([*(f"{key}={value}" for key, value in self.environment.items()), *self.arguments])


def parts(size: str, peers: Sequence[str]) -> list[Part]:
    """The runs, what says most first."""

    def step(batch_size: int, setting: str, *, precision: str = "bfloat16", beside: Sequence[str] = (), **more) -> Part:
        batch_size = batch_size if size == "b16" else 4
        work = (f"--batch_size={batch_size}", f"--precision={precision}", "--settings", setting)
        return Part(("step", f"--size={size}", "--turns=1", *work, "--peers", *beside), **more)

    def inference(batch_size: int, precision: str) -> Part:
        return Part(
            ("inference", f"--size={size}", "--turns=1", f"--precision={precision}", "--batch_size", str(batch_size))
            + ("--peers", *peers)
        )

    eager = [peer for peer in peers if peer == "eager"]
    level = {"JAX_OPTIMIZATION_LEVEL": "UNKNOWN"}
    runs = [
        Part(("device", f"--size={size}", "--peers", *eager)),
        step(256, NO_DROPOUT, beside=peers),
        step(1024, REMATERIALISED, grows="rematerialised"),
        step(256, LONG),
        inference(256 if size == "b16" else 2, "bfloat16"),
        Part(("loss", f"--size={'full' if size == 'b16' else 'tiny'}", "--peers", *eager)),
        step(256, LONG, precision="tensorfloat32"),
        step(512, NO_DROPOUT, grows="kept"),
        step(256, PLAIN),
        step(1024, NO_DROPOUT, grows="kept"),
        step(256, LONG, beside=peers),
        step(256, REMATERIALISED, beside=peers),
        step(256, LONG, precision="tensorfloat32", beside=peers),
        step(2048, REMATERIALISED, grows="rematerialised"),
        step(512, LONG, precision="tensorfloat32", grows="tensorfloat32"),
        step(256, "captions of real lengths", beside=peers),
        step(256, NO_DROPOUT, environment=level),
        inference(256 if size == "b16" else 2, "tensorfloat32"),
        step(512, NO_DROPOUT, beside=peers),
        step(2048, NO_DROPOUT, grows="kept"),
        step(4096, REMATERIALISED, grows="rematerialised"),
        step(256, "4 microbatches"),
        step(1024, LONG, precision="tensorfloat32", grows="tensorfloat32"),
    ]
    return list({part.name: part for part in runs}.values())


def run_parts(wanted: Sequence[Part], output: pathlib.Path, minutes: float) -> dict[str, Any]:
    """Makes the runs that the file lacks until the minutes are over; returns what the file then holds.

    It holds {"parts": {name: {"seconds", "report"} or {"seconds", "error"}}}; see `Report.as_json` for a report.
    """
    end = time.monotonic() + 60 * minutes
    found = json.loads(output.read_text())["parts"] if output.exists() else {}
    left = [part for part in wanted if "report" not in found.get(part.name, {})]
    left.sort(key=lambda part: part.name in found)
    progress, full = Progress(len(left)), set()
    for part in left:
        progress.begin(part.name)
        if part.grows in full:
            continue
        if (seconds := end - time.monotonic()) <= 0:
            break
        found[part.name] = _run(part, output.with_name(output.name + ".part"), seconds)
        if part.grows and any(sign in found[part.name].get("error", "") for sign in _OUT_OF_MEMORY):
            full.add(part.grows)
        write_text(output, json.dumps({"parts": found}, indent=2) + "\n")
    return {"parts": found}


def table(found: Mapping[str, Any]) -> str:
    """What the runs gave, as lines."""
    lines = []
    for name, part in found["parts"].items():
        lines.append(f"{name} ({part['seconds']:.0f} s)" + (f": {part['error']}" if "error" in part else ""))
        for case in part.get("report", {}).get("cases", ()):
            peer = "" if case["peer"] is None else f", peer {case['peer']:.4g}, ratio {case['ratio']:.3f}"
            lines.append(f"    {case['name']}: {case['ours']:.4g} {case['unit']}{peer}")
    return "\n".join(lines)


def peers_there(size: str) -> list[str]:
    """The PyTorch sides that this machine has: all with CUDA, where that is what is measured."""
    script = f"import torch; print(torch.cuda.is_available() or {size == 'tiny'})"
    asked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    there = asked.returncode == 0 and asked.stdout.strip() == "True"
    return (["eager", "compiled"] if size == "b16" else ["eager"]) if there else []


def device() -> tuple[str, str]:
    """The platform and the kind of the device that JAX uses, asked for in a process that gives it back."""
    script = "import jax; device = jax.devices()[0]; print(device.platform); print(device.device_kind)"
    asked = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True)
    platform, kind = asked.stdout.splitlines()[-2:]
    return platform, kind


def _run(part: Part, output: pathlib.Path, seconds: float) -> dict[str, Any]:
    start = time.monotonic()
    command = [sys.executable, str(BENCHMARK), *part.arguments, f"--output={output}"]
    environment = os.environ | ENVIRONMENT | dict(part.environment)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
        result = {"report": json.loads(output.read_text())} if done.returncode == 0 else {"error": _error(done.stderr)}
    except subprocess.TimeoutExpired:
        result = {"error": "cut off by --minutes"}
    output.unlink(missing_ok=True)
    return {"seconds": time.monotonic() - start} | result


def _error(text: str) -> str:
    """The line that says what went wrong: of several processes' tracebacks, the end of the first."""
    lines = [line.strip() for line in text.splitlines()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b|.*: error: ", line)]
    return (errors or lines or ["no message"])[0][:300]
