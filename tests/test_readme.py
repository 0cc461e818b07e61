"""Every command and every Python block of the README and of `docs/` is tried: flags by the program's own parser, files
by looking, Python by running it on a tiny Shapes run.

What cannot be tried here stands in `ELSEWHERE` with the reason. A command in neither fails.
"""

import argparse
import importlib
import os
import pathlib
import re
import runpy
import shlex

import absl.flags
import pytest
from ml_collections import config_flags

from clippy_jax.config import parse

ROOT = pathlib.Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
STARTS = ("python", "make", "clippy-jax", "pip", "export")  # what a command begins with

# The beginning of a command, and what stands in for trying it.
ELSEWHERE = {
    "make demo": "12 minutes; test_main, test_evaluate, test_segment and tests/shapes run its stages at their smallest",
    "make ablation": "half an hour; tests/tools/test_ablation.py runs it with the trainings replaced",
    "make benchmark": "half an hour; tests/tools/test_benchmark.py runs each of its commands at its smallest",
    "make test": "this suite",
    "pip install": "needs the network",
    "export GLIBC_TUNABLES": "a setting of the C library, which the Makefile makes too",
}


def commands_of(text: str) -> list[str]:
    """The commands of a page: lines of its code blocks, and code within a line of text that starts like one."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language in ("", "sh", "bash", "shell", "console"):
            found += [line.strip().removeprefix("$ ") for line in block.replace("\\\n", " ").splitlines()]
    inline = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", inline)]
    # A name alone, such as `make`, is a word of the text.
    return [line for line in found if line.startswith(tuple(f"{start} " for start in STARTS))]


def python_blocks_of(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def program_and_flags(command: str) -> tuple[str, list[str]]:
    """("clippy_jax.evaluate", ["--checkpoint=runs/b16"]) of a command, however the program is started."""
    words = shlex.split(command, comments=True)
    match words:
        case ["python", "-m", module, *flags]:
            return module, flags
        case ["python", script, *flags] if script.endswith(".py"):
            assert (ROOT / script).is_file(), f"{command!r}: there is no {script}"
            return script.removesuffix(".py").replace("/", "."), flags
        case ["clippy-jax", "train", *flags]:
            return "clippy_jax.main", flags
        case ["clippy-jax", name, *flags]:
            return f"clippy_jax.{name}", flags
    raise AssertionError(f"{command!r} is no program that this test knows; teach it, or say why not in ELSEWHERE")


def check_configuration(flags: list[str]) -> None:
    """Parses `--config` with its overrides as `clippy_jax.main` does, and checks the result against the schema."""
    name = next(flag.removeprefix("--config=") for flag in flags if flag.startswith("--config="))
    given = [flag for flag in flags if re.match(r"--config[.=]", flag)]
    if not any(flag.startswith("--config.input.train=") for flag in given) and "b16" in name:
        given += ["--config.input.train=data.tar", "--config.input.tokenizer=tokenizer"]
    argv = ["main", *given]
    private = absl.flags.FlagValues()
    values = config_flags.DEFINE_config_file("config", flag_values=private, sys_argv=argv)
    private(argv)
    parse(values.value)


def check_flags(command: str) -> None:
    """Parses a command's flags with the parser of its program; raises if one of them is not known."""
    module, flags = program_and_flags(command)
    if importlib.util.find_spec(f"{module}.__main__") if _is_package(module) else False:
        module = f"{module}.__main__"
    program = importlib.import_module(module)
    parser = getattr(program, "flags", None)
    if any(flag.startswith("--config=") for flag in flags):
        check_configuration(flags)
        flags = [flag for flag in flags if not re.match(r"--config[.]", flag)]
    if callable(parser):
        parsed = parser()
        assert isinstance(parsed, argparse.ArgumentParser)
        parsed.parse_args(flags)
    elif flags:  # absl's
        known = absl.flags.FLAGS
        for flag in flags:
            assert flag.removeprefix("--").partition("=")[0] in known, f"{flag} is not a flag of {module}"


def _is_package(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"there is no program {module}"
    return spec.submodule_search_locations is not None


def check_files(command: str) -> None:
    """What a command names of the repository is there."""
    for name in re.findall(r"\b((?:configs|tools|tests|docs)/[\w./-]+\w)", command):
        assert (ROOT / name).exists(), f"{command!r}: there is no {name}"


COMMANDS = [(page, command) for page in PAGES for command in commands_of(page.read_text())]


@pytest.mark.parametrize("page, command", COMMANDS, ids=[f"{page.name}: {command[:60]}" for page, command in COMMANDS])
def test_every_command_is_one_that_its_program_understands(page, command):
    check_files(command)
    if not any(command.startswith(beginning) for beginning in ELSEWHERE):
        check_flags(command)


def test_make_targets_are_there():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {shlex.split(command, comments=True)[1] for _, command in COMMANDS if command.startswith("make ")}
    assert named and named <= targets


def test_nothing_is_listed_that_no_page_names():
    unused = [beginning for beginning in ELSEWHERE if not any(c.startswith(beginning) for _, c in COMMANDS)]
    assert not unused


@pytest.mark.parametrize(
    "command, complaint",
    [
        ("python -m clippy_jax.evaluate --checkpoint=runs/b16 --imagnet=x", "unrecognized arguments: --imagnet=x"),
        ("python -m clippy_jax.evalute --checkpoint=runs/b16", "there is no program clippy_jax.evalute"),
        ("python -m clippy_jax.main --config=configs/b16.py --workdr=x", "--workdr=x is not a flag of"),
        ("python -m clippy_jax.main --config=configs/b16.py --workdir=x --config.inptu.train=x", "inptu"),
        ("python tools/benchmrk.py step", "there is no tools/benchmrk.py"),
        ("python tools/benchmark.py stp --output=x.json", "invalid choice: 'stp'"),
        ("make coffee", "teach it, or say why not in ELSEWHERE"),
    ],
)
def test_a_wrong_command_would_be_found(command, complaint, capsys):
    with pytest.raises((Exception, SystemExit)) as error:
        check_flags(command)
    assert complaint in str(error.value) + capsys.readouterr().err


def test_commands_are_found_in_blocks_and_in_text():
    page = """
```
make demo     # a comment
python -m clippy_jax.evaluate --checkpoint=runs/b16 \\
    --voc=/data/VOC2012
```
Or `python tools/benchmark.py loss
--output=loss.json`, or `make`; `--voc` is a flag.
```python
python = "no command"
```
"""
    assert commands_of(page) == [
        "make demo     # a comment",
        "python -m clippy_jax.evaluate --checkpoint=runs/b16      --voc=/data/VOC2012",
        "python tools/benchmark.py loss --output=loss.json",
    ]
    assert python_blocks_of(page) == ['python = "no command"\n']


BLOCKS = [(page, block) for page in PAGES for block in python_blocks_of(page.read_text())]


@pytest.mark.parametrize("page, block", BLOCKS, ids=[f"{page.name}, block {i}" for i, (page, _) in enumerate(BLOCKS)])
def test_python_blocks_run(page, block, demo_folder, monkeypatch, tmp_path):
    """In a folder as `make demo` leaves it, on a model of a few thousand parameters."""
    monkeypatch.chdir(demo_folder)
    script = tmp_path / "block.py"
    script.write_text(block)
    runpy.run_path(str(script))
    assert os.listdir(demo_folder)
