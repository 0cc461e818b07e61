"""When the training step is compiled, how long that takes, and where the program is kept for the run's next start."""

import os
import time
from typing import Any

import jax

from clippy_jax.models.packed_texts import PackedTexts
from clippy_jax.run.metrics import log_line


def keep_programs(workdir: str) -> None:
    """Has every program that takes a second or more to compile kept in `WORKDIR/compilation_cache`.

    To be called before anything is compiled. A folder in `JAX_COMPILATION_CACHE_DIR` goes first. Nothing is kept in
    remote workdirs: there, reading a program can take longer than compiling it.
    """
    if jax.config.jax_compilation_cache_dir is None and "://" not in workdir:
        jax.config.update("jax_compilation_cache_dir", os.path.join(os.path.abspath(workdir), "compilation_cache"))


class StepPrograms:
    """A training step as one program for each number of rows of the packed texts, compiled when it is first needed."""

    def __init__(self, step: Any):
        """`step` is what `jax.jit` made of (state, images, texts) → (state, metrics)."""
        self._step = step
        self._programs: dict[int, Any] = {}

    def program(self, state: Any, images: jax.Array, texts: PackedTexts) -> Any:
        """The program for arguments like these; compiles it, and logs the time, if it is not there yet."""
        packs, rows, length = texts.tokens.shape
        if rows not in self._programs:
            start = time.monotonic()
            self._programs[rows] = self._step.lower(state, images, texts).compile()
            seconds = time.monotonic() - start
            log_line(f"compiled the step for texts in {packs} x {rows} rows of {length} tokens in {seconds:.1f} s")
        return self._programs[rows]
