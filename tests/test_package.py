"""The installed package: a wheel in an environment of its own, and the one command in front of all programs."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from clippy_jax.__main__ import COMMANDS, main
from clippy_jax.main import parse_flags

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: building leaves files beside what it builds
    shutil.copytree(ROOT / "clippy_jax", source / "clippy_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, f"--wheel-dir={folder}", str(source)], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> pathlib.Path:
    """A folder with nothing of the project but what the wheel installs; the other packages are the tests' own."""
    folder = tmp_path_factory.mktemp("installed")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={folder}", str(wheel)]
    subprocess.run(install, check=True, cwd=folder)
    return folder


def run(installed: pathlib.Path, *command: str, cwd: pathlib.Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_wheel_holds_every_module_and_every_file_that_is_read(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "clippy_jax"
    kinds = (".py", ".json", ".js", ".html", ".css")
    wanted = {str(path.relative_to(ROOT)) for path in package.rglob("*") if path.suffix in kinds}
    assert not wanted - names
    assert not [name for name in names if name.startswith(("tests", "tools", "configs"))]


def test_the_installed_command_makes_a_model_that_python_loads(installed, demo_folder, tmp_path):
    """What the README does first, from what is installed alone."""
    command = str(installed / "bin" / "clippy-jax")
    workdir = demo_folder / "runs" / "shapes"
    for script, expected in (
        ("import clippy_jax; print(clippy_jax.__file__)", str(installed)),
        (f"import clippy_jax; print(clippy_jax.load({str(workdir)!r}))", "Model(image: ViT"),
    ):
        done = run(installed, sys.executable, "-c", script, cwd=tmp_path)
        assert expected in done.stdout, done.stderr
    image = next((demo_folder / "data" / "shapes" / "voc" / "JPEGImages").glob("*.jpg"))
    flags = [f"--checkpoint={workdir}", f"--image={image}", "--labels=apple,grass", "--output=overlay.png"]
    done = run(installed, sys.executable, command, "segment", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "overlay.png").stat().st_size > 1000


def test_the_command_alone_lists_every_command_with_two_examples(capsys):
    main([])
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)
    assert printed.count("  clippy-jax ") == 2
    assert max(map(len, printed.splitlines())) <= 120


@pytest.fixture
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")


PARTS = [
    *(f"analysis {name}" for name in ("backgrounds", "feature_space")),
    *(f"convert {name}" for name in ("to-flax", "to-torch", "to-hub", "inspect")),
    *(f"export {name}" for name in ("stablehlo", "onnx", "web", "safetensors", "torch")),
]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "train"] + PARTS)
def test_every_command_has_help_of_one_screen_with_two_examples(command, capsys, wide_terminal):
    try:
        main([*command.split(), "--help"])
    except SystemExit as end:
        assert end.code == 0
    check_help(capsys.readouterr().out)


def test_so_has_training(capsys, wide_terminal):  # its flags are absl's, which cannot be made twice in a process
    with pytest.raises(SystemExit) as end:
        parse_flags(["train", "--help"])
    assert not end.value.code
    check_help(capsys.readouterr().out)


def check_help(printed: str) -> None:
    lines = printed.splitlines()
    assert lines[0].startswith("usage: ") and len(lines) <= 45 and max(map(len, lines)) <= 120
    assert sum("clippy" in line for line in lines[lines.index("examples:") :]) >= 2


def test_a_command_that_there_is_not_is_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        main(["trian"])
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("error: 'trian' is not a command; did you mean 'train'?")
