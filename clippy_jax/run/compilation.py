"""How long JAX compiles, and where compiled programs are kept for the run's next start."""

import os
from collections.abc import Callable
from typing import Any

import jax

_COMPILATION = "/jax/core/compile/"  # JAX's events of tracing, lowering and compiling begin like this


def keep_programs(workdir: str) -> None:
    """Has every program that takes a second or more to compile kept in `WORKDIR/compilation_cache`.

    To be called before anything is compiled. A folder in `JAX_COMPILATION_CACHE_DIR` goes first. Nothing is kept in
    remote workdirs: there, reading a program can take longer than compiling it.
    """
    if jax.config.jax_compilation_cache_dir is None and "://" not in workdir:
        jax.config.update("jax_compilation_cache_dir", os.path.join(os.path.abspath(workdir), "compilation_cache"))


def call_and_time_compilation(function: Callable, *arguments) -> tuple[Any, float]:
    """What a function returns, and the seconds for which JAX compiled in it: 0.0 where all programs were there."""
    seconds = []

    def listen(event: str, duration: float, **_) -> None:
        if event.startswith(_COMPILATION):
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        result = function(*arguments)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return result, sum(seconds)
