"""Trains a run once undisturbed and once killed again and again, and certifies what is equal.

With the layout of the undisturbed run (`killed_runs.Layout`), parameters, moments, losses and ledger have to be equal
bit for bit. Where the number of processes or devices changes on the way, the ledger has to be equal: every step saw the
same samples. The same sums are then rounded in another order, so of the parameters and losses only the largest
difference is told, and of the losses it has to be below a bound.
"""

import dataclasses
import hashlib
import json
import pathlib
import platform
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from clippy_jax.config import Config
from clippy_jax.errors import InputError
from clippy_jax.run.checkpointing import restore_arrays
from clippy_jax.run.json_lines import read_lines
from clippy_jax.run.killed_runs import Layout, Start, plan_kills, run_until
from clippy_jax.run.ledger import read_digests
from clippy_jax.whole_files import write_text

CERTIFICATE = "certificate.json"


def prove_resume(
    config: Config,
    flags: Sequence[str],
    workdir: pathlib.Path,
    layouts: Sequence[Layout],
    on_cpu: bool,
    kills: int,
    seed: int,
    loss_tolerance: float,
    say: Callable[[str], object],
) -> dict[str, Any]:
    """Makes the runs in folders of `workdir`, compares them and writes `workdir/certificate.json`.

    Args:
      config: what `flags` give the training program, whose `stop_step` ends the runs.
      flags: `--config=...` and overrides.
      layouts: the first is that of the undisturbed run; with more than one, a run changes between all of them.
      on_cpu: as in `run_until`.
      kills: in each of the disturbed runs.
      seed: of the moments and signals.
      loss_tolerance: largest relative difference of a loss where the layout changes.
      say: told of every start.

    Returns:
      What the certificate holds; `["holds"]` is the verdict.

    Raises:
      InputError: runs are there already, or the training program refuses its flags.
    """
    flags = [*flags, "--config.input.ledger=True", "--config.log_every_steps=1"]
    stop = config.schedule.stop_step
    whole = workdir / "uninterrupted"
    workdir.mkdir(parents=True, exist_ok=True)
    start_seconds, step_seconds = 10.0, 0.1
    if not (whole / "checkpoints" / str(stop)).is_dir():
        start = run_until(flags, whole, layouts[0], on_cpu)
        start_seconds = start.seconds_to_first_step or start.seconds
        step_seconds = (start.seconds - start_seconds) / stop
        say(f"uninterrupted, {layouts[0]}: {stop} steps")
    runs = {"same layout": layouts[:1]} | ({"changing layouts": layouts} if len(layouts) > 1 else {})
    found = {}
    for number, (name, turns) in enumerate(runs.items()):
        folder = workdir / name.replace(" ", "_")
        if folder.exists():
            raise InputError(f"{folder} is there already; remove it, or use another --workdir")
        starts = []
        plan = plan_kills(kills, seed + number, stop, config.checkpoint.every_steps, start_seconds, step_seconds)
        for turn, kill in enumerate([*plan, None]):
            starts.append(run_until(flags, folder, turns[turn % len(turns)], on_cpu, kill))
            say(f"{name}, {_told(starts[-1])}")
        found[name] = compare(whole, folder, stop, None if len(turns) == 1 else loss_tolerance)
        # A run that is asked to end once it has made a step saves and ends in order.
        in_order = all(not any(start.exit_statuses) for start in starts if _was_asked(start) and start.step < stop)
        found[name]["holds"] &= in_order
        found[name] |= {"every SIGTERM in a step ended in order": in_order}
        found[name]["starts"] = [dataclasses.asdict(start) for start in starts]
    certificate = {
        "holds": all(run["holds"] for run in found.values()),
        "steps": stop,
        "seed": seed,
        "flags": list(flags),
        "layouts": [str(layout) for layout in layouts],
        "devices": "CPU" if on_cpu else "accelerators",
        "machine": platform.platform(),
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "numpy": np.__version__},
        "uninterrupted": digests(whole, stop),
        "runs": found,
    }
    write_text(epath.Path(workdir) / CERTIFICATE, json.dumps(certificate, indent=2) + "\n")
    return certificate


def digests(workdir: pathlib.Path, step: int) -> dict[str, str]:
    """SHA-256 of what a run has come to: parameters and moments after `step`, losses and samples of all steps."""
    params, moments = restore_arrays(workdir, ("params", "optimizer_state"), step)
    losses, ledger = _losses(workdir), read_digests(workdir)
    return {
        "parameters": _digest(params),
        "moments": _digest(moments),
        "losses": hashlib.sha256(json.dumps(losses).encode()).hexdigest(),
        "ledger": hashlib.sha256(json.dumps(ledger).encode()).hexdigest(),
    }


def compare(whole: pathlib.Path, other: pathlib.Path, step: int, loss_tolerance: float | None) -> dict[str, Any]:
    """What is equal in two runs of `step` steps.

    Args:
      loss_tolerance: None if all has to be equal bit for bit; else only the ledger, and the losses up to it.
    """
    one, two = digests(whole, step), digests(other, step)
    equal = {name: one[name] == two[name] for name in one}
    losses, others = _losses(whole), _losses(other)
    ledger = read_digests(whole)
    complete = list(ledger) == list(losses) == list(others) == list(range(1, step + 1))
    relative = max((_difference(losses[k], others[k]) for k in losses.keys() & others.keys()), default=np.inf)
    left, right = (restore_arrays(run, ("params",), step)[0] for run in (whole, other))
    differences = jax.tree.map(lambda a, b: float(np.abs(np.asarray(a, np.float64) - b).max()), left, right)
    if loss_tolerance is None:
        holds = complete and all(equal.values())
    else:
        holds = complete and equal["ledger"] and relative <= loss_tolerance
    return {
        "claim": "bit-equal" if loss_tolerance is None else f"ledger equal, losses within {loss_tolerance:g}",
        "holds": bool(holds),
        "every step reported once": complete,
        "digests": two,
        "equal": equal,
        "largest difference of a parameter": max(jax.tree.leaves(differences)),
        "largest relative difference of a loss": relative,
    }


def table(certificate: dict[str, Any]) -> str:
    """The certificate for people."""
    width = 42
    lines = [f"{'':{width}}" + "".join(f"{name:>20}" for name in certificate["runs"])]
    runs = certificate["runs"].values()

    def row(name: str, values: Sequence[str]) -> None:
        lines.append(f"{name:{width}}" + "".join(f"{value:>20}" for value in values))

    for signal in ("SIGKILL", "SIGTERM"):
        row(f"{signal}s", [str(_kills(run, signal)) for run in runs])
    for name in certificate["uninterrupted"]:
        row(f"{name} equal bit for bit", ["yes" if run["equal"][name] else "no" for run in runs])
    for name in ("largest difference of a parameter", "largest relative difference of a loss"):
        row(name, [f"{run[name]:.2g}" for run in runs])
    row("holds", ["yes" if run["holds"] else "NO" for run in runs])
    return "\n".join(lines)


def _was_asked(start: Start) -> bool:
    return start.kill is not None and start.kill.signal == "SIGTERM" and start.kill.step is not None


def _kills(run: dict[str, Any], signal: str) -> int:
    return sum(start["kill"] is not None and start["kill"]["signal"] == signal for start in run["starts"])


def _losses(workdir: pathlib.Path) -> dict[int, float | None]:
    """Step → loss, None where it was not finite."""
    lines = read_lines(epath.Path(workdir) / "metrics.jsonl")
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def _difference(loss: float | None, other: float | None) -> float:
    """Relative to the first loss; without a bound where that is 0 or one of them was not finite."""
    if loss == other:
        return 0.0
    return abs(other - loss) / abs(loss) if loss and other is not None else np.inf


def _digest(tree: Any) -> str:
    """Of the names, shapes, types and bits of a tree's arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _told(start: Start) -> str:
    if start.kill is None:
        return f"{start.layout}: went on to step {start.step} and ended"
    return f"{start.layout}: {start.kill.signal} at step {start.step}, ended after {start.seconds_to_end:.1f} s"
