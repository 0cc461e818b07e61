"""Programs are compiled once for each number of rows of texts, and found again by the next process."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp

from clippy_jax.models.packed_texts import PackedTexts
from clippy_jax.run.compilation import StepPrograms

SCRIPT = """
import sys
import jax, jax.numpy as jnp
from clippy_jax.models.packed_texts import PackedTexts
from clippy_jax.run.compilation import StepPrograms, keep_programs

keep_programs(sys.argv[1])
programs = StepPrograms(jax.jit(lambda state, images, texts: (state + images.sum(), texts.tokens.sum())))
rows = jnp.ones((2, 5, 16), jnp.int32)
arguments = jnp.ones(3), jnp.ones((2, 4)), PackedTexts(rows, rows, rows[:, 0])
print(programs.program(*arguments)(*arguments))
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
    assert "compiled the step for texts in 2 x 5 rows of 16 tokens in " in finished.stdout
    return finished.stdout.splitlines()[-1], finished.stderr


def programs_in(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*-cache")}


def test_the_next_process_finds_the_program(tmp_path):
    first, _ = run(tmp_path / "run")
    kept = programs_in(tmp_path / "run" / "compilation_cache")
    assert any("lambda" in name for name in kept)
    second, _ = run(tmp_path / "run")
    assert programs_in(tmp_path / "run" / "compilation_cache") == kept and second == first


def test_a_damaged_program_is_compiled_again(tmp_path):
    first, _ = run(tmp_path)
    for path in (tmp_path / "compilation_cache").glob("*-cache"):
        path.write_bytes(b"damaged")
    assert run(tmp_path)[0] == first


def test_the_environment_names_another_folder(tmp_path):
    run(tmp_path / "run", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "elsewhere"))
    assert programs_in(tmp_path / "elsewhere") and not (tmp_path / "run").exists()


def test_one_program_for_each_number_of_rows(capsys):
    programs = StepPrograms(jax.jit(lambda state, images, texts: (state + images.sum(), texts.tokens.sum())))
    state, images = jnp.ones(3), jnp.ones((2, 4))

    def texts(rows):
        tokens = jnp.ones((2, rows, 16), jnp.int32)
        return PackedTexts(tokens, tokens, tokens[:, 0])

    first = programs.program(state, images, texts(1))
    assert programs.program(state, images, texts(2)) is not first and programs.program(state, images, texts(1)) is first
    assert first(state, images, texts(1))[1] == 32
    assert capsys.readouterr().out.count("compiled the step") == 2
