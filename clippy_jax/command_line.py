"""Flags of the entry points that need no configuration file, and the line that each program begins with."""

import argparse
import contextlib
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from clippy_jax.errors import InputError


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaints are one line, as all of ours are; flags cannot be abbreviated.

    Args:
      prog: how the program is called.
      description: what it does, in a line.
      documentation: the program's docstring; its paragraphs of commands become the examples at the end of the help.
    """

    def __init__(self, prog: str, description: str, documentation: str | None = None):
        paragraphs = (documentation or "").split("\n\n")
        examples = [text.strip() for text in paragraphs if text.strip().startswith("python -m")]
        super().__init__(
            prog=prog,
            description=description,
            epilog="examples:\n\n" + "\n\n".join(examples) if examples else None,
            formatter_class=_Help,
            allow_abbrev=False,
        )

    def parse_args(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:  # type: ignore[override]
        """As `ArgumentParser` does, with the home folder in the place of a "~" that starts a value."""
        args = super().parse_args(arguments)
        for name, value in vars(args).items():
            setattr(args, name, [at_home(item) for item in value] if isinstance(value, list) else at_home(value))
        return args

    def error(self, message: str) -> None:
        """Raises `InputError` instead of printing the usage and exiting."""
        raise InputError(f"{message}; see {self.prog} --help")


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Surrounds the imports of a program's large libraries, which make a million objects that stay: the garbage
    collector looks at them neither now nor later nor at the exit, which saves seconds.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def at_home(value: Any) -> Any:
    """A value with the home folder in the place of a "~" that starts it: shells leave that of --flag=~/file alone."""
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~") else value


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of examples as they are, and most flags on one line with what they mean."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=36)


def announce(devices: bool = True) -> None:
    """Says on a terminal what a program runs on: versions, and the devices that JAX sees. Silent where it is piped.

    Args:
      devices: whether the program computes. JAX takes hold of the devices here, so several processes join before.
    """
    if not sys.stderr.isatty():
        return
    import importlib.metadata

    import clippy_jax

    parts = [f"clippy_jax {clippy_jax.__version__}", f"jax {importlib.metadata.version('jax')}"]
    if devices:
        import jax

        kinds = [device.device_kind for device in jax.devices()]
        parts += [f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds)]
    print(", ".join(parts), file=sys.stderr, flush=True)
