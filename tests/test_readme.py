"""Every command, flag and Python block of the README and of `docs/` is tried: flags by the program's own parser, files
by looking, Python by running it on a tiny Shapes run.

What cannot be tried here stands in `ELSEWHERE` with the reason. A command that is neither fails.
"""

import importlib.util
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
STARTS = ("python", "make", "clippy-jax", "pip", "export", "bash", "sbatch", "kubectl")  # what a command begins with

# The beginning of a command, and what stands in for trying it.
ELSEWHERE = {
    "make demo": "5 to 9 minutes; test_main, _evaluate, _segment and tests/shapes run its stages at their smallest",
    "make ablation": "half an hour; tests/tools/test_ablation.py runs it with the trainings replaced",
    "make report": "needs a demo; tests/test_reproduce.py runs its program",
    "make soak": "eleven minutes; tests/tools/test_soak.py, and the suite has the promises one by one",
    "make errors": "the suite once more; tests/test_errors_document.py",
    "make benchmark": "half an hour; tests/tools/test_benchmark.py runs each of its commands at its smallest",
    "make test": "this suite",
    "pip install": "needs the network",
    "bash launch/": "needs the machines; tests/test_launch.py starts the scripts with other programs in their places",
    "sbatch ": "needs Slurm; tests/test_launch.py checks the script",
    "kubectl ": "needs Kubernetes; tests/test_launch.py reads the file",
    "export XLA_PYTHON_CLIENT": "JAX's own settings of a GPU's memory",
    "export JAX_DEBUG_NANS": "JAX's own setting",
    "export GLIBC_TUNABLES": "a setting of the C library, which the Makefile makes too",
}


FILES = ("config.json",)  # which look like fields of the configuration

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def code_in_text(text: str) -> list[str]:
    """What stands in backticks outside of blocks."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", BLOCK.sub("", text))]


def commands_of(text: str) -> list[str]:
    """The commands of a page: lines of its code blocks, and code within a line of text that starts like one."""
    blocks = (block for language, block in BLOCK.findall(text) if language in ("", "sh", "bash", "shell", "console"))
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [re.sub(r"^([A-Z_]+=\S* )+", "", line) for line in lines + code_in_text(text)]
    # A name alone, such as `make`, is a word of the text.
    return [command for command in commands if command.startswith(tuple(f"{start} " for start in STARTS))]


def python_blocks_of(text: str) -> list[str]:
    return [block for language, block in BLOCK.findall(text) if language == "python"]


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
        case ["clippy-jax", "analysis", name, *flags]:
            return f"clippy_jax.analysis.{name}", flags
        case ["clippy-jax", name, *flags]:
            return f"clippy_jax.{name}", flags
    raise AssertionError(f"{command!r} is no program that this test knows; teach it, or say why not in ELSEWHERE")


def check_flags(command: str) -> None:
    """Parses a command's flags with the parser of its program; raises if one of them is not known."""
    module, flags = program_and_flags(command)
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"{command!r}: there is no program {module}"
    program = importlib.import_module(f"{module}.__main__" if spec.submodule_search_locations else module)
    if any(flag.startswith("--config=") for flag in flags):
        _check_configuration(flags)
        flags = [flag for flag in flags if not flag.startswith("--config.")]
    if hasattr(program, "flags") and callable(program.flags):
        program.flags().parse_args(flags)
    else:  # absl's
        unknown = [flag for flag in flags if flag.removeprefix("--").partition("=")[0] not in absl.flags.FLAGS]
        assert not unknown, f"{command!r}: {', '.join(unknown)} is not a flag of {module}"


def _check_configuration(flags: list[str]) -> None:
    """The file with its overrides, as `clippy_jax.main` reads them, beside the schema."""
    argv = ["main", *(flag for flag in flags if flag.startswith(("--config=", "--config.")))]
    private = absl.flags.FlagValues()
    values = config_flags.DEFINE_config_file("config", flag_values=private, sys_argv=argv)
    private(argv)
    parse(values.value)


def check_files(command: str) -> None:
    """What a command names of the repository is there."""
    for name in re.findall(r"\b((?:configs|tools|tests|docs|launch)/[\w./-]+\w)", command):
        assert (ROOT / name).exists(), f"{command!r}: there is no {name}"


COMMANDS = [(page, command) for page in PAGES for command in commands_of(page.read_text())]


@pytest.mark.parametrize("page, command", COMMANDS, ids=[f"{page.name}: {command[:60]}" for page, command in COMMANDS])
def test_every_command_is_one_that_its_program_understands(page, command, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_files(command)
    if not any(command.startswith(beginning) for beginning in ELSEWHERE):
        check_flags(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_and_field_named_in_the_text_is_there(page):
    fields = runpy.run_path(str(ROOT / "configs" / "b16.py"))["get_config"]().to_dict()
    importlib.import_module("clippy_jax.main")
    known = set(absl.flags.FLAGS)
    known |= set(
        re.findall(r"--(\w+)", importlib.import_module("clippy_jax.evaluate").flags().with_rare_flags().format_help())
    )
    for program in [*(ROOT / "tools").glob("*.py"), *(ROOT / "clippy_jax").rglob("*.py")]:
        known |= set(re.findall(r'add_argument\(\s*"--(\w+)"', program.read_text()))
    for code in code_in_text(page.read_text()):
        for key in re.findall(r"^(?:--)?config\.(?!py\b|FIELD\b)([\w.]*\w)", code):
            if f"config.{key}" in FILES:
                continue
            group = fields
            for name in key.split("."):
                assert name in group, f"`{code}` is no field of the configuration"
                group = group[name]
        unknown = {flag for flag in re.findall(r"^--(\w+)", code) if flag not in known}
        assert not unknown, f"`{code}` is a flag of no program"


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
        ("python -m clippy_jax.main --config=configs/shapes.py --workdr=x", "--workdr=x is not a flag of"),
        ("python -m clippy_jax.main --config=configs/shapes.py --workdir=x --config.inptu.train=x", "inptu"),
        ("python tools/benchmrk.py step", "there is no tools/benchmrk.py"),
        ("python tools/benchmark.py stp --output=x.json", "invalid choice: 'stp'"),
        ("make coffee", "teach it, or say why not in ELSEWHERE"),
    ],
)
def test_a_wrong_command_would_be_found(command, complaint, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
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
Or `CUDA_VISIBLE_DEVICES= python tools/benchmark.py loss
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


# The first line of a Python block that does not run in the folder of the demo, and what stands in for trying it.
BLOCKS_ELSEWHERE = {"from load import load": "tests/export/test_stablehlo.py runs it in an exported folder"}
BLOCKS = [
    (page, block)
    for page in PAGES
    for block in python_blocks_of(page.read_text())
    if block.splitlines()[0] not in BLOCKS_ELSEWHERE
]


@pytest.mark.parametrize("page, block", BLOCKS, ids=[f"{page.name}, block {i}" for i, (page, _) in enumerate(BLOCKS)])
def test_python_blocks_run(page, block, demo_folder, monkeypatch, tmp_path):
    """In a folder as `make demo` leaves it."""
    (tmp_path / "block.py").write_text(block)
    monkeypatch.chdir(demo_folder)
    runpy.run_path(str(tmp_path / "block.py"))
