"""The programs of this folder behind one name: `clippy-jax analysis`, or `python -m clippy_jax.analysis`."""

import importlib
import sys
from collections.abc import Sequence

from clippy_jax.errors import InputError, exit_with_one_line

PROGRAMS = {
    "feature_space": "pictures of patches, images and words, and one page that holds them",
    "backgrounds": "what another background does to the name of an object",
}


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program that is named first; without any, lists them."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("--help", "-h"):
        print(_overview())
    elif name in PROGRAMS:
        importlib.import_module(f"clippy_jax.analysis.{name}").main(rest)
    else:
        raise InputError(f"{name!r} is no analysis; there are {' and '.join(PROGRAMS)}")


def _overview() -> str:
    width = max(map(len, PROGRAMS))
    lines = [f"  {name:{width}}  {about}" for name, about in PROGRAMS.items()]
    examples = [
        '  clippy-jax analysis feature_space --checkpoint=runs/b16 --image=cats/ --labels="cat,lawn" --output=maps/',
        "  clippy-jax analysis backgrounds --checkpoint=runs/shapes --shapes --output=backgrounds/",
    ]
    return "\n".join(["usage: clippy-jax analysis NAME ...", "", *lines, "", "examples:", "", *examples])


if __name__ == "__main__":
    main()
