"""The one exception for wrong input, and how an entry point shows it."""

import functools
import os
import sys
from collections.abc import Callable


class InputError(Exception):
    """Something the user handed us is wrong: a file, a flag or a configuration key.

    The message is one line that names the file or key, says what is wrong and what to do about it. Entry points
    print it without a traceback and exit with status 1; every other exception is a bug of ours and keeps its traceback.
    """


def exit_with_one_line(main: Callable) -> Callable:
    """Wraps an entry point so that an `InputError` ends the program with one line on stderr and exit status 1."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except InputError as error:
            print(f"{_red('error:')} {error}", file=sys.stderr, flush=True)
            sys.exit(1)

    return wrapped


def _red(text: str) -> str:
    """The text, in red where stderr is a terminal that has colours and `NO_COLOR` (no-color.org) is not set."""
    plain = not sys.stderr.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[31m{text}\x1b[0m"
