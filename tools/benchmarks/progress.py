"""What a benchmark is doing, on stderr. Of its own: a bare GPU machine has no tqdm."""

import sys
import time


class Progress:
    """Says what is measured next, as which of all parts, and how long the rest may take."""

    def __init__(self, parts: int):
        """All parts are taken to last as long as each other."""
        self._parts, self._begun, self._start = parts, 0, time.monotonic()

    def begin(self, what: str) -> None:
        """To be called before each part."""
        seconds = time.monotonic() - self._start
        left = f", {seconds / self._begun * (self._parts - self._begun) / 60:.0f} min left" if self._begun else ""
        self._begun += 1
        print(f"{self._begun}/{self._parts} after {seconds:.0f} s{left}: {what}", file=sys.stderr, flush=True)
