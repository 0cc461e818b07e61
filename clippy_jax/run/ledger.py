"""What a run has read and left out, step by step, over all of its starts: `WORKDIR/ledger/PROCESS.jsonl`.

    {"step": 7, "samples": "00c5f04d7a1be3f2", "bad": {"truncated": 1}, "first": ["/data/3.tar: 12.jpg"]}
    {"step": 9, "update": "left out"}

A line tells of one step: the digest of the samples (with `config.input.ledger`), the samples that could not be used and
the first of their names, an update that was left out. A process writes of its own part of the batch. When a run goes
back to a checkpoint, lines of later steps are dropped; so sums over lines are those of a run that was never stopped.
"""

import json
from collections import Counter

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from clippy_jax.datasets.sample import BadCounts
from clippy_jax.input_pipeline.accounts import MODULUS, Account
from clippy_jax.processes import gather_texts, log_line
from clippy_jax.run.json_lines import JsonLines, go_back, read_lines

_FOLDER = "ledger"


class Ledger:
    """Every process of a run makes the same calls, each with what it has read itself.

    Attributes:
      updates_left_out: how many updates the run has left out.
    """

    def __init__(self, workdir: epath.PathLike, digests: bool, start_step: int):
        """Goes on with the ledger as it was after `start_step` steps.

        Args:
          digests: write a line for every step, and not only for those with something bad.
        """
        self._folder = epath.Path(workdir) / _FOLDER
        self._digests = digests
        mine = self._folder / f"{jax.process_index()}.jsonl"
        self._lines = JsonLines(mine)
        files = [mine]
        if jax.process_index() == 0:  # and those of starts with more processes
            files += [file for file in _files(self._folder) if int(file.stem) >= jax.process_count()]
        kept = [line for file in files for line in go_back(file, start_step)]
        self._bad = BadCounts()
        for line in kept:
            self._bad.note_all(_bad(line))
        left_out = len({line["step"] for line in kept if line.get("update") == "left out"})
        self.updates_left_out = int(multihost_utils.broadcast_one_to_all(np.int32(left_out)))
        self._told = False

    def note(self, step: int, account: Account) -> None:
        """Notes what this process has read for a step."""
        values = {"samples": f"{account.digest:016x}"} if self._digests else {}
        if account.bad:
            values |= {"bad": dict(account.bad), "first": account.bad.first}
            self._bad.note_all(account.bad)
        if values:
            self._lines.write(step, values)

    def note_update_left_out(self, step: int) -> None:
        """Notes that the parameters stay as they were before a step; all processes know it."""
        self.updates_left_out += 1
        if jax.process_index() == 0:
            self._lines.write(step, {"update": "left out"})

    def bad_samples(self) -> Counter[str]:
        """The bad samples of the whole run and of all processes, by cause. All processes call it together."""
        total, first = Counter(), []
        for text in gather_texts(json.dumps([self._bad, self._bad.first])):
            counts, names = json.loads(text)
            total.update(counts)
            first += names
        if total and not self._told:
            self._told = True
            log_line(f"samples that cannot be used are replaced, such as {first[0]}; {self._folder} names more")
        return total

    def flush(self) -> None:
        """Hands the lines so far to the file system; to be called before a checkpoint is saved."""
        self._lines.flush()

    def close(self) -> None:
        """Ends the file."""
        self._lines.close()


def read_digests(workdir: epath.PathLike) -> dict[int, str]:
    """Step → digest of the global batch's samples, in the order of the steps. Needs no other process."""
    sums: Counter[int] = Counter()
    for file in _files(epath.Path(workdir) / _FOLDER):
        for line in read_lines(file):
            if isinstance(line.get("samples"), str):
                sums[line["step"]] += int(line["samples"], 16)
    return {step: f"{sums[step] % MODULUS:016x}" for step in sorted(sums)}


def _files(folder: epath.Path) -> list[epath.Path]:
    return [file for file in folder.glob("*.jsonl") if file.stem.isdigit()] if folder.is_dir() else []


def _bad(line: dict) -> BadCounts:
    """The bad samples of a line; none where it does not say it as it should."""
    bad = BadCounts()
    counts, first = line.get("bad"), line.get("first")
    if isinstance(counts, dict) and isinstance(first, list):
        bad.update({cause: count for cause, count in counts.items() if isinstance(count, int)})
        bad.first = [str(name) for name in first]
    return bad
