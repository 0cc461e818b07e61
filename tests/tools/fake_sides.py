"""Two sides that do nothing, for the test of how sides take turns."""

import os
import sys

from tools.benchmarks import sides


def side(speed: float) -> sides.Side:
    def run(i: int) -> None:
        print(f"run {i}", file=sys.stderr)

    facts = {"device": "none", "tunables": os.environ.get("GLIBC_TUNABLES", ""), "process": os.getpid()}
    return sides.Side(facts, run, lambda: os.getpid(), lambda: speed)


if __name__ == "__main__":
    sides.serve({"ours": side, "eager": lambda speed: side(2 * speed)})
