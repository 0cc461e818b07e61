"""How long JAX compiles, and where compiled programs are kept for the run's next start.

A compiled program is native code that runs with the rights of whoever loads it. So programs are kept, and loaded, only
from a folder that nobody but its owner can write to.
"""

import os
import stat
from collections.abc import Callable
from typing import Any

import jax

from clippy_jax.host_memory import give_back_memory
from clippy_jax.processes import log_line

_COMPILATION = "/jax/core/compile/"  # JAX's events of tracing, lowering and compiling begin like this
_COMPILED = f"{_COMPILATION}backend_compile_duration"  # the last of them
_FOLDER = "compilation_cache"


def keep_programs(workdir: str) -> None:
    """Has every program that takes a second or more to compile kept in `WORKDIR/compilation_cache`.

    To be called before anything is compiled. A folder in `JAX_COMPILATION_CACHE_DIR` goes first. Nothing is kept in
    remote workdirs, where reading a program can take longer than compiling it, nor in a folder that somebody else could
    have written to; a line then says so.
    """
    if jax.config.jax_compilation_cache_dir is not None or "://" in workdir:
        return
    folder = os.path.join(os.path.abspath(workdir), _FOLDER)
    if doubt := _doubt(folder):
        log_line(f"{folder} {doubt}: compiled programs are neither taken from there nor kept; remove it to keep them")
    else:
        jax.config.update("jax_compilation_cache_dir", folder)


def choose_optimization_level() -> None:
    """Has XLA compile for GPUs at its level O1, which hides the time that devices wait for each other, and says so.

    To be called before anything is compiled. A level in `JAX_OPTIMIZATION_LEVEL` goes first (`UNKNOWN`: XLA's own).
    """
    if jax.default_backend() != "gpu":
        return
    if "JAX_OPTIMIZATION_LEVEL" not in os.environ:
        jax.config.update("jax_optimization_level", "O1")
    log_line(f"compiling at level {jax.config.jax_optimization_level} (JAX_OPTIMIZATION_LEVEL sets another)")


def make_program_folder(workdir: str) -> None:
    """Makes the folder, if programs are to be kept in it, as one that only its owner can write to."""
    folder = os.path.join(os.path.abspath(workdir), _FOLDER)
    if jax.config.jax_compilation_cache_dir == folder:
        os.makedirs(folder, mode=0o700, exist_ok=True)


def _doubt(folder: str) -> str:
    """Why others may have written to a folder; "" if they cannot have, or if it is not there yet."""
    try:
        about = os.lstat(folder)
    except OSError:
        return ""
    if not stat.S_ISDIR(about.st_mode):
        return "is a link, not a folder" if stat.S_ISLNK(about.st_mode) else "is no folder"
    if about.st_uid != os.geteuid():
        return "belongs to another user"
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by others"
    return ""


def call_and_time_compilation(function: Callable, *arguments) -> tuple[Any, float]:
    """What a function returns, and the seconds for which JAX compiled in it: 0.0 where all programs were there.

    What the compiler has freed goes back to the system before a new program takes the memory that it needs.
    """
    seconds = []

    def listen(event: str, duration: float, **_) -> None:
        if event.startswith(_COMPILATION):
            seconds.append(duration)
        if event == _COMPILED:
            give_back_memory()

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        result = function(*arguments)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return result, sum(seconds)
