"""Flags of the entry points that need no configuration file, and the line that each program begins with."""

import argparse
import sys

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

    def error(self, message: str) -> None:
        """Raises `InputError` instead of printing the usage and exiting."""
        raise InputError(f"{message}; see {self.prog} --help")


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
