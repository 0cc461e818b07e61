"""Files with a JSON object per line, each of a step, that go on where the run's newest checkpoint is."""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from clippy_jax.whole_files import write_text, writing


class JsonLines:
    """Appends `{"step": 200, ...}` to a file, which is there once something is written to it."""

    def __init__(self, path: epath.Path):
        self._path = path
        self._file = None

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends a line; raises `InputError` where it cannot, as the others do."""
        with writing(self._path):
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("a")
            self._file.write(json.dumps({"step": step, **values}) + "\n")

    def flush(self) -> None:
        """Hands the lines so far to the file system."""
        if self._file is not None:
            with writing(self._path):
                self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        if self._file is not None:
            with writing(self._path):
                self._file.close()


def go_back(path: epath.Path, step: int) -> list[dict[str, Any]]:
    """Leaves a file as it was after `step` steps, and returns its lines.

    Lines of later steps are dropped, because those steps are about to be made again; so is what is no such line.
    """
    content = path.read_bytes() if path.exists() else b""
    lines = content.splitlines()
    parsed = [(line, _parsed(line)) for line in lines]
    kept = [(line, values) for line, values in parsed if values is not None and values["step"] <= step]
    if len(kept) < len(lines) or (
        content and not content.endswith(b"\n")
    ):  # a last line without its end would swallow the next
        write_text(path, "".join(f"{line.decode()}\n" for line, _ in kept))
    return [values for _, values in kept]


def read_lines(path: epath.Path) -> list[dict[str, Any]]:
    """The lines of a file; what is no such line is left out."""
    return [values for line in path.read_bytes().splitlines() if (values := _parsed(line)) is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(line.decode())
        return values if isinstance(values["step"], int) else None
    except (ValueError, TypeError, KeyError, RecursionError):  # cut off in the middle of writing, or not ours
        return None
