"""Flags of the entry points that need no configuration file."""

import argparse

from clippy_jax.errors import InputError


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaints are one line, as all of ours are; flags cannot be abbreviated."""

    def __init__(self, prog: str, description: str):
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> None:
        """Raises `InputError` instead of printing the usage and exiting."""
        raise InputError(f"{message}; see {self.prog} --help")
