"""What JAX compiles is counted, and found again by the next process."""

import os
import pathlib
import stat
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from clippy_jax.run import compilation
from clippy_jax.run.compilation import call_and_time_compilation, choose_optimization_level

SCRIPT = """
import sys
import jax, jax.numpy as jnp
from clippy_jax.run.compilation import keep_programs

keep_programs(sys.argv[1])
print(jax.jit(lambda state, images: state + images.sum())(jnp.ones(3), jnp.ones((2, 4))))
"""


def run(workdir, **environment):
    return run_script(SCRIPT, workdir, **environment)


def run_script(script, *arguments, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    environment = inherited | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"} | environment
    finished = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
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


FOLDERS = """
import sys
import jax
from clippy_jax.run.compilation import keep_programs, make_program_folder

for workdir in sys.argv[1:]:
    keep_programs(workdir)
    print(jax.config.jax_compilation_cache_dir)
    make_program_folder(workdir)
    jax.config.update("jax_compilation_cache_dir", None)
"""


def test_programs_are_native_code_and_never_taken_from_where_others_can_write(tmp_path):
    workdirs = {name: tmp_path / name for name in ("own", "theirs", "writable", "linked", "file", "new")}
    for name, workdir in workdirs.items():
        workdir.mkdir()
        if name in ("own", "theirs", "writable"):
            (workdir / "compilation_cache").mkdir(mode=0o755)
    (workdirs["writable"] / "compilation_cache").chmod(0o775)
    (workdirs["linked"] / "compilation_cache").symlink_to(workdirs["own"] / "compilation_cache")
    (workdirs["file"] / "compilation_cache").write_text("")
    tried = [name for name in workdirs if name != "theirs" or os.geteuid() == 0]
    if "theirs" in tried:
        os.chown(workdirs["theirs"] / "compilation_cache", 12345, 12345)
    lines = run_script(FOLDERS, *(workdirs[name] for name in tried)).splitlines()
    kept = [line for line in lines if line.startswith("/") and "neither" not in line]
    assert kept == [str(workdirs[name] / "compilation_cache") for name in ("own", "new")]
    assert stat.S_IMODE((workdirs["new"] / "compilation_cache").stat().st_mode) == 0o700
    said = [line.partition(": compiled")[0].partition("compilation_cache ")[2] for line in lines if "neither" in line]
    doubts = ["belongs to another user"] * ("theirs" in tried)
    assert said == [*doubts, "can be written by others", "is a link, not a folder", "is no folder"]
    assert lines.count("None") == len(tried) - 2


@pytest.mark.parametrize("backend, chosen, level", [("gpu", None, "O1"), ("gpu", "O2", "O2"), ("cpu", None, "UNKNOWN")])
def test_gpus_get_the_level_that_hides_waiting_unless_another_is_chosen(monkeypatch, capsys, backend, chosen, level):
    monkeypatch.delenv("JAX_OPTIMIZATION_LEVEL", raising=False)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    try:
        if chosen:
            monkeypatch.setenv("JAX_OPTIMIZATION_LEVEL", chosen)
            jax.config.update("jax_optimization_level", chosen)  # which JAX does when it starts
        choose_optimization_level()
        assert jax.config.jax_optimization_level == level
        assert jax.jit(lambda x: x + 1)(1) == 2  # JAX takes the word
    finally:
        jax.config.update("jax_optimization_level", "UNKNOWN")
    assert (f"level {level} " in capsys.readouterr().out) == (backend == "gpu")


def test_new_programs_take_time_to_compile_and_their_memory_is_given_back(monkeypatch):
    given_back = []
    monkeypatch.setattr(compilation, "give_back_memory", lambda: given_back.append(len(seconds)))
    double = jax.jit(lambda x: 2 * x)
    short, long = jnp.ones(3), jnp.ones(4)
    seconds = []
    for x in (short, short, long, short):
        doubled, time_to_compile = call_and_time_compilation(double, x)
        assert doubled.tolist() == [2.0] * len(x)
        seconds.append(time_to_compile)
    assert seconds[0] > 0 and seconds[2] > 0 and seconds[1] == seconds[3] == 0
    assert set(given_back) == {0, 2}
