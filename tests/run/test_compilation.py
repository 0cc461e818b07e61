"""What JAX compiles is counted, and found again by the next process."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp

from clippy_jax.run.compilation import call_and_time_compilation

SCRIPT = """
import sys
import jax, jax.numpy as jnp
from clippy_jax.run.compilation import keep_programs

keep_programs(sys.argv[1])
print(jax.jit(lambda state, images: state + images.sum())(jnp.ones(3), jnp.ones((2, 4))))
"""


def run(workdir, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    environment = inherited | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"} | environment
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(workdir)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def programs_in(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*-cache")}


def test_the_next_process_finds_the_program(tmp_path):
    first = run(tmp_path / "run")
    kept = programs_in(tmp_path / "run" / "compilation_cache")
    assert any("lambda" in name for name in kept)
    second = run(tmp_path / "run")
    assert programs_in(tmp_path / "run" / "compilation_cache") == kept and second == first


def test_a_damaged_program_is_compiled_again(tmp_path):
    first = run(tmp_path)
    for path in (tmp_path / "compilation_cache").glob("*-cache"):
        path.write_bytes(b"damaged")
    assert run(tmp_path) == first


def test_the_environment_names_another_folder(tmp_path):
    run(tmp_path / "run", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "elsewhere"))
    assert programs_in(tmp_path / "elsewhere") and not (tmp_path / "run").exists()


def test_the_time_to_compile_is_that_of_new_programs():
    double = jax.jit(lambda x: 2 * x)
    short, long = jnp.ones(3), jnp.ones(4)
    seconds = []
    for x in (short, short, long, short):
        doubled, time_to_compile = call_and_time_compilation(double, x)
        assert doubled.tolist() == [2.0] * len(x)
        seconds.append(time_to_compile)
    assert seconds[0] > 0 and seconds[2] > 0 and seconds[1] == seconds[3] == 0
