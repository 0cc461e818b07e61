"""Flags of the entry points that need no configuration file."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from clippy_jax.errors import InputError


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaints are one line, as all of ours are; flags cannot be abbreviated."""

    def __init__(self, prog: str, description: str):
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def parse_args(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:  # type: ignore[override]
        """As `ArgumentParser` does, with the home folder in the place of a "~" that starts a value."""
        args = super().parse_args(arguments)
        for name, value in vars(args).items():
            setattr(args, name, [_at_home(item) for item in value] if isinstance(value, list) else _at_home(value))
        return args

    def error(self, message: str) -> None:
        """Raises `InputError` instead of printing the usage and exiting."""
        raise InputError(f"{message}; see {self.prog} --help")


def _at_home(value: Any) -> Any:
    """Shells leave the "~" in --flag=~/file as it is."""
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~") else value
