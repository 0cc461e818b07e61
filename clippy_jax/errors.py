"""The one exception for wrong input, the boundary where libraries meet what users give, and how an entry point ends."""

import contextlib
import functools
import importlib.metadata
import io
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator

_LONGEST_REASON = 200  # characters


class InputError(Exception):
    """Something the user handed us is wrong: a file, a flag or a configuration key.

    The message is one line that names the file or key, says what is wrong and what to do about it. Entry points
    print it without a traceback and exit with status 1; every other exception is a bug of ours and keeps its traceback.
    """

    def __init__(self, message: object):
        super().__init__(" ".join(str(message).splitlines()))  # names in files may hold line breaks


@contextlib.contextmanager
def reading(
    what: object, advice: str = "", wrong: str = "cannot be read", into: type[Exception] = InputError
) -> Iterator[None]:
    """The boundary between a library and a file or flag of the user's: whatever is raised inside becomes one line.

    Libraries raise what they like about a damaged file, and `MemoryError` and `RecursionError` are among it. Put it
    around the library's work alone, since a bug of ours inside would be taken for the user's.

    Args:
      what: the file, flag or key, as the message names it.
      advice: what to do about it.
      wrong: what is said of it, unless the operating system refuses to read it.
      into: the exception that is raised instead; one that is raised inside passes as it is, as `InputError` does.

    Raises:
      InputError: something else was raised inside (or `into` of the same text).
    """
    try:
        yield
    except (InputError, into):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of libraries in Rust
            raise
        refused = isinstance(error, OSError) and (error.errno or isinstance(error, FileNotFoundError))
        said = "cannot be read" if refused and not wrong.startswith("cannot be read") else wrong
        raise into(f"{what} {said} ({reason(error)}){advice and '; '}{advice}") from error


def reason(error: BaseException) -> str:
    """What an exception of a library says, on one line, shortened."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = getattr(error, "strerror", None) or str(error)
    text = " ".join(str(text).split())
    if not text or isinstance(error, KeyError):
        text = f"{type(error).__name__}{text and ': '}{text}"
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + " ..."


def exit_with_one_line(main: Callable) -> Callable:
    """Wraps an entry point so that wrong input ends the program with one line on stderr and exit status 1.

    So does what the operating system refuses (a full disk, missing rights, a file that has gone) and what does not fit
    into memory; and Ctrl+C, with the status that shells give it. Any other exception is a bug of ours: it keeps its
    traceback, and a note says so.

    A file's name that is no text (bytes that are no UTF-8) is printed with escapes, on stdout as on stderr.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return main(*args, **kwargs)
        except KeyboardInterrupt:
            print("stopped by Ctrl+C", file=sys.stderr, flush=True)
            sys.exit(128 + signal.SIGINT)
        except Exception as error:
            message = one_line(error)
            if message is None:
                if bug_note() not in getattr(error, "__notes__", ()):  # one program may start another
                    error.add_note(bug_note())
                raise
            print(f"{_red('error:')} {message}", file=sys.stderr, flush=True)
            sys.exit(1)

    return wrapped


def bug_note() -> str:
    """What stands below the traceback of a bug of ours."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("clippy_jax", "jax", "jaxlib", "flax"))
    return (
        "This is a bug of clippy_jax, not of what you gave it: please report it with the lines above and your command "
        f"({versions}, Python {platform.python_version()}, {platform.platform()})."
    )


def one_line(error: Exception) -> str | None:
    """What an exception says to the user, None where it is a bug."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):  # the second is XLA's
        return f"out of memory ({reason(error)}); use a smaller batch or smaller images"
    if isinstance(error, OSError) and error.errno:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return f"{' -> '.join(names)}{names and ': ' or ''}{error.strerror or error}"
    return None


def version(package: str) -> str:
    """That of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _red(text: str) -> str:
    """The text, in red where stderr is a terminal that has colours and `NO_COLOR` (no-color.org) is not set."""
    plain = not sys.stderr.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[31m{text}\x1b[0m"
