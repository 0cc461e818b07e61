"""Flags of the entry points that need no configuration file, and the line that each program begins with."""

import argparse
import contextlib
import difflib
import gc
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from clippy_jax.errors import InputError


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaints are one line, as all of ours are; flags cannot be abbreviated.

    Args:
      prog: how the program is called.
      description: what it does, in a line.
      documentation: text with commands, in paragraphs of their own; those of `prog` become the examples of the help.
    """

    def __init__(self, prog: str, description: str, documentation: str | None = None):
        paragraphs = [text.strip() for text in (documentation or "").split("\n\n")]
        commands = [command for text in paragraphs for command in re.split(r"\n(?=python )", text)]
        examples = [command for command in commands if command.startswith(prog)]
        super().__init__(
            prog=prog,
            description=description,
            epilog="\n".join(["examples:", "", *examples]) if examples else None,
            formatter_class=_Help,
            allow_abbrev=False,
        )
        self._rare: list[tuple[argparse.Action, str]] = []  # with their helps

    def add_rare_flags(self, title: str) -> Callable[..., None]:
        """What adds flags to a group that `--help` leaves out and `--help_all` shows; called as `add_argument` is."""
        if not self._rare:
            self.add_argument("--help_all", nargs=0, action=_ShowAll, help="show the flags that are rarely needed too")
        group = self.add_argument_group(title)

        def add(name: str, *, help: str, **options: Any) -> None:
            self._rare.append((group.add_argument(name, help=argparse.SUPPRESS, **options), help))

        return add

    def with_rare_flags(self) -> "Parser":
        """Itself; from now on its help has all flags."""
        for action, help in self._rare:
            action.help = help
        return self

    def parse_args(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:  # type: ignore[override]
        """As `ArgumentParser` does, with paths as `on_this_machine` has them, and a hint at what was meant."""
        args, unknown = self.parse_known_args(on_this_machine(sys.argv[1:] if arguments is None else arguments))
        if unknown:
            name = unknown[0].split("=")[0].lstrip("-").replace("-", "_").lower()
            close = difflib.get_close_matches(name, vars(args), n=1) if unknown[0].startswith("-") else []
            hint = f"did you mean --{close[0]}? " if close else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}; {hint}see {self.prog} --help")
        return args

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """As `ArgumentParser` does. An empty value means something to flags with a default alone; as a path, that of a
        shell's variable that is not set would be the current folder."""
        if action.option_strings and action.default is None and "" in arg_strings:
            self.error(f"{action.option_strings[0]} is empty; give it a value, or leave it out")
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> None:
        """Raises `InputError` instead of printing the usage and exiting."""
        raise InputError(message if message.endswith("--help") else f"{message}; see {self.prog} --help")


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


def on_this_machine(arguments: Sequence[str]) -> list[str]:
    """Values that begin with "~" or "file://" become paths; shells leave the home folder of --flag=~/file alone."""

    def changed(argument: str) -> str:
        name, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
        value = value.removeprefix("file://")
        return name + equals + (os.path.expanduser(value) if value.startswith("~") else value)

    return [changed(argument) for argument in arguments]


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of examples as they are, most flags on one line with what they mean, and the usage short."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=36, width=shutil.get_terminal_size((120, 45)).columns - 2)

    def add_usage(self, usage, actions, groups, prefix=None):
        """The usage names what is required alone."""
        named = [action for action in actions if action.required]
        if any(not action.required and action.dest != "help" for action in actions):
            named.append(argparse.Action([], "flags", nargs="?"))
        super().add_usage(usage, named, [], prefix)


class _ShowAll(argparse.Action):
    """--help_all."""

    def __call__(self, parser, *_):
        parser.with_rare_flags().print_help()
        parser.exit()


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
