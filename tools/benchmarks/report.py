"""What a benchmark reports: cases, ours beside the peer's, and where they were measured."""

import contextlib
import dataclasses
import os
import pathlib
import platform
from typing import Any

from clippy_jax.errors import version


@dataclasses.dataclass(frozen=True)
class Case:
    """One quantity. `peer` is None where the peer has no such thing."""

    name: str
    ours: float
    peer: float | None
    unit: str
    # The middle half of the measurements, (first quartile, third quartile), where there are several.
    ours_spread: tuple[float, float] | None = None
    peer_spread: tuple[float, float] | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's."""
        return None if self.peer is None else self.ours / self.peer


@dataclasses.dataclass(frozen=True)
class Report:
    """All cases of one command."""

    environment: dict[str, Any]
    cases: list[Case]

    def as_json(self) -> dict[str, Any]:
        """The report as it is written."""
        return {
            "environment": self.environment,
            "cases": [dataclasses.asdict(case) | {"ratio": case.ratio} for case in self.cases],
        }

    def table(self) -> str:
        """The report as it is printed."""
        lines = [f"{key}: {value}" for key, value in self.environment.items()]
        width = max(len(case.name) for case in self.cases)
        lines += ["", f"{'':{width}}  {'ours':>10}  {'peer':>10}  {'ratio':>6}  unit"]
        for case in self.cases:
            peer, ratio = ("-", "-") if case.ratio is None else (f"{case.peer:.4g}", f"{case.ratio:.3f}")
            lines.append(f"{case.name:{width}}  {case.ours:>10.4g}  {peer:>10}  {ratio:>6}  {case.unit}")
        return "\n".join(lines)


def environment(device: str, packages: tuple[str, ...]) -> dict[str, Any]:
    """Where it was measured: the device, the CPU, the cores that this process may use and their load, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": device,
        "processor": _processor(),
        "cores": cores,
        "load average at the start": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _processor() -> str:
    """The CPU's name and, where Linux tells, its family and model, by which those of one name differ."""
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        about = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
        if "model name" in about:
            return f"{about['model name']}, family {about.get('cpu family')}, model {about.get('model')}"
    return platform.processor() or platform.machine()
