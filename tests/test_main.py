"""The training program in several processes that are killed in the middle, and checkpoints that move between them."""

import itertools
import json
import pathlib
import shutil
import signal
import socket
from collections.abc import Sequence

import jax
import numpy as np
import pytest

from clippy_jax import prove_resume
from clippy_jax.main import parse_flags
from clippy_jax.run import resume_proof
from clippy_jax.run.checkpointing import restore_arrays
from clippy_jax.run.ledger import read_digests
from tests import programs, small_run
from tests.programs import Program
from tests.xla_flags import xla_flags

PROGRAM = ("-m", "clippy_jax.main")

# The program, with a heartbeat that is missed after seconds instead of minutes.
SHORT_HEARTBEAT = """
import runpy, sys
sys.argv.append("--heartbeat_seconds=4")
runpy.run_module("clippy_jax.main", run_name="__main__", alter_sys=True)
"""

LOST = (
    "of this run ended or gives no sign of life; see its own output; the same command, with any number of processes, "
    "goes on from the newest checkpoint"
)

# The program, whose second process fails in an evaluation in which the first one waits for it.
FAILING_EVALUATION = f"""
import jax
from jax.experimental import multihost_utils
from clippy_jax.evaluators.periodic import PeriodicEvaluation
def run(self, step, params, made=()):
    if jax.process_index() == 1:
        raise RuntimeError("no luck")
    multihost_utils.sync_global_devices("an evaluation")
    return ()
PeriodicEvaluation.run = run
{SHORT_HEARTBEAT}
"""

# The program, killed at the moment when the arrays of step 12 are written and about to get their name.
KILLED_WHILE_SAVING = """
import os, runpy, signal, sys
def kill(event, arguments):
    if event == "os.rename" and "/checkpoints/12." in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
runpy.run_module("clippy_jax.main", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def flags(tmp_path_factory) -> list[str]:
    data = tmp_path_factory.mktemp("shapes") / "data"
    saving = dict(checkpoint__every_steps=4, checkpoint__every_minutes=0.0, checkpoint__keep=9)
    return small_run.flags(data, schedule__stop_step=16, input__ledger=True, **saving)


@pytest.fixture(scope="module")
def uninterrupted(flags, tmp_path_factory) -> pathlib.Path:
    """The run of one process with four devices and whole parameters, 16 steps."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    ((status, _, error),) = finish(start([*flags, f"--workdir={workdir}"], [PROGRAM], devices=4, **programs.WHOLE_END))
    assert status == 0, error
    return workdir


def start(flags: Sequence[str], starts: Sequence[Sequence[str]], devices: int = 1, **environment: str) -> list[Program]:
    """The processes of one run, each with so many devices and its own way to start the program."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    together = [f"--coordinator_address={address}", f"--process_count={len(starts)}"]
    return [
        Program([*start, *flags, *together, f"--process_id={number}"], {"XLA_FLAGS": xla_flags(devices)} | environment)
        for number, start in enumerate(starts)
    ]


def finish(processes: Sequence[Program]) -> list[tuple[int, str, str]]:
    """Waits for the processes: exit status, stdout and stderr of each."""
    try:
        outputs = [process.communicate() for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(processes, outputs)]


def lines_of(workdir: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same_training(workdir: pathlib.Path, reference: list[dict]) -> None:
    """Every step once, in order, with the figures of the reference."""
    lines = lines_of(workdir)
    assert [line["step"] for line in lines] == [line["step"] for line in reference]
    for name, rtol in (("loss", 2e-6), ("gradient_norm", 5e-6), ("logit_scale", 1e-6)):
        np.testing.assert_allclose([line[name] for line in lines], [line[name] for line in reference], rtol=rtol)


def test_killed_processes_end_together_and_the_same_command_goes_on_where_they_were(flags, uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    flags = [*flags, f"--workdir={workdir}"]
    checkpoints = workdir / "checkpoints"

    # Between two checkpoints the second process dies. The first cannot go on alone, and ends: where it meets the other,
    # or where JAX tells it to. Step 4 is saved by then:
    # saving step 8 has waited for it. Step 8 may still be half-written.
    first, second = start(flags, [("-c", SHORT_HEARTBEAT)] * 2)
    assert any(line.startswith("step  9/16") for line in first.stdout)
    second.kill()
    (status, _, error), (killed, _, _) = finish([first, second])
    assert killed == -signal.SIGKILL and status == -signal.SIGABRT
    assert error.splitlines()[1:] == [f"error: process 1 {LOST}"]
    assert 9 <= len(lines_of(workdir)) < 12
    newest = max(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())

    # Then the first dies while it writes a checkpoint, and leaves it half-written. The second one ends.
    (killed, output, _), (status, _, error) = finish(start(flags, [("-c", KILLED_WHILE_SAVING), PROGRAM]))
    assert f"continuing after step {newest}\n" in output
    assert killed == -signal.SIGKILL and status == -signal.SIGABRT
    assert error.splitlines()[1:] == [f"error: process 0 {LOST}"]
    assert list(checkpoints.glob("12.*")) and not (checkpoints / "12").exists()

    (status, output, error), (other, _, _) = finish(start(flags, [PROGRAM] * 2, **programs.WHOLE_END))
    assert (status, other) == (0, 0), error
    assert "continuing after step 8\n" in output
    assert sorted(int(path.name) for path in checkpoints.iterdir()) == [4, 8, 12, 16]
    assert_same_training(workdir, lines_of(uninterrupted))
    assert resume_proof.compare(uninterrupted, workdir, 16, loss_tolerance=1e-5)["holds"]


def cut_after(step: int, run: pathlib.Path, workdir: pathlib.Path) -> None:
    """Copies a run as it would be if it had ended after a step at which it saved."""
    shutil.copytree(run, workdir)
    for checkpoint in (workdir / "checkpoints").iterdir():
        if checkpoint.name.isdigit() and int(checkpoint.name) > step:
            shutil.rmtree(checkpoint)
    for path in (workdir / "metrics.jsonl", *(workdir / "ledger").iterdir()):
        kept = [line for line in path.read_text().splitlines(True) if json.loads(line)["step"] <= step]
        path.write_text("".join(kept))


def test_a_checkpoint_goes_on_in_other_processes_on_other_devices_with_other_sharding(flags, uninterrupted, tmp_path):
    """From one process to four, to two that stop after the same step when one of them is warned, to one."""
    workdir = tmp_path / "run"
    cut_after(4, uninterrupted, workdir)
    flags = [*flags, f"--workdir={workdir}", "--interrupted_exit_status=75"]

    ended = finish(start([*flags, "--config.schedule.stop_step=6", "--config.parameter_sharding=fsdp"], [PROGRAM] * 4))
    assert [status for status, _, _ in ended] == [0] * 4, ended
    assert ["step 6/6" in output for _, output, _ in ended] == [True] + [False] * 3
    assert "continuing after step 4\n" in ended[0][1]

    first, second = start(flags, [PROGRAM] * 2, devices=2)
    before = list(itertools.takewhile(lambda line: not line.startswith("step  7/16"), first.stdout))
    assert "continuing after step 6\n" in before
    second.send_signal(signal.SIGUSR1)
    (status, output, error), (other, silent, _) = finish([first, second])
    assert (status, other) == (75, 75), error
    stopped = len(lines_of(workdir))
    assert f"stopped after step {stopped}, which is saved" in output and 7 <= stopped < 16
    assert "step " not in silent

    ((status, output, error),) = finish(start(flags, [PROGRAM], devices=4))
    assert status == 0 and f"continuing after step {stopped}\n" in output, error
    assert_same_training(workdir, lines_of(uninterrupted))
    assert read_digests(workdir) == read_digests(uninterrupted)


def test_two_processes_start_from_given_weights_with_split_parameters(flags, uninterrupted, tmp_path):
    """The recipe on two nodes: no process ever sees the whole state."""
    changes = ["--config.parameter_sharding=fsdp", f"--config.init.clippy={uninterrupted}"]
    changes += ["--config.schedule.peak_learning_rate=0.0", "--config.schedule.stop_step=1", "--config.seed=5"]
    ended = finish(start([*flags, *changes, f"--workdir={tmp_path}"], [PROGRAM] * 2))
    assert [status for status, _, _ in ended] == [0, 0], ended
    given, kept = (restore_arrays(workdir, ("params",))[0] for workdir in (uninterrupted, tmp_path))
    jax.tree.map(np.testing.assert_array_equal, given, kept)


def test_an_evaluation_that_fails_in_one_process_ends_the_run(flags, tmp_path):
    ended = finish(start([*flags, f"--workdir={tmp_path}"], [("-c", FAILING_EVALUATION)] * 2))
    (first, _, said), (second, _, error) = ended
    assert second == 1 and "RuntimeError: no luck" in error
    assert first == 1 and said.splitlines()[-1] == f"error: process 1 {LOST}" and "Traceback" not in said


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.inptu.train=x", "config.inptu is not a configuration key; did you mean 'input'?"),
        ("--config.input.tarin=x", "config.input.tarin is not a configuration key; did you mean 'train'?"),
        ("--noconfig.input.flap", "config.input.flap is not a configuration key; did you mean 'flip'?"),
        ("--config.evals.tasks.ade2k.path=x", "evals.tasks.ade2k is not a configuration key; did you mean 'ade20k'?"),
        ("--config.seed.x=3", "config.seed.x is not a configuration key; config.seed is a value, 0, not a group"),
        ("--config=nowhere.py", "--config=nowhere.py does not exist; give a configuration file, for example configs/"),
        (f"--config={small_run.ROOT}/README.md", "README.md cannot be read ("),
    ],
)
def test_a_wrong_command_is_answered_in_one_line(argument, message, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_flags(["main", f"--config={small_run.ROOT}/configs/b16.py", argument, "--workdir=runs/b16"])
    error = capsys.readouterr().err
    assert ended.value.code == 1 and message in error and error.count("\n") == 1


def test_an_empty_workdir_is_not_the_current_folder(capsys):
    with pytest.raises(SystemExit):
        parse_flags(["main", f"--config={small_run.ROOT}/configs/b16.py", "--workdir="])
    assert capsys.readouterr().err == "error: --workdir is empty; name the folder of the run\n"


def test_a_flag_file_that_is_not_there_is_answered_in_one_line():
    """absl looks for it before the program begins."""
    done = programs.run([*PROGRAM, "--flagfile=nowhere"])
    assert done.returncode == 1 and done.stderr.startswith("error: the command line cannot be read (ERROR:: Unable")
    assert done.stderr.count("\n") == 1


def test_a_run_that_is_killed_comes_to_what_one_does_that_is_not(flags, uninterrupted, tmp_path, capsys, monkeypatch):
    """The certificate of `prove_resume`; here of one SIGTERM."""
    monkeypatch.setattr("sys.executable", programs.python())
    shutil.copytree(uninterrupted, tmp_path / "uninterrupted")
    with pytest.raises(SystemExit) as ended:
        prove_resume.main([*flags, f"--workdir={tmp_path}", "--kills=1", "--layouts=1x4", "--seed=57"])
    output = capsys.readouterr().out
    assert ended.value.code == 0, output
    certificate = json.loads((tmp_path / "certificate.json").read_text())
    killed, finished = certificate["runs"]["same layout"]["starts"]
    assert (killed["kill"]["signal"], killed["exit_statuses"]) == ("SIGTERM", [0])
    assert finished["kill"] is None and finished["step"] == 16
    said = (tmp_path / "same_layout.process0.log").read_text()
    assert "SIGTERM: stopping after this step; a second signal ends at once" in said
    assert f"stopped after step {killed['step']}, which is saved; the same command goes on from there" in said
    assert f"continuing after step {killed['step']}\n" in said
    assert certificate["uninterrupted"] == certificate["runs"]["same layout"]["digests"]


@pytest.mark.parametrize(
    "file, old, new, differs",
    [
        ("ledger/0.jsonl", '"}', '0"}', "ledger"),
        ("ledger/0.jsonl", '"step": 7', '"step": 6', "ledger"),
        ("metrics.jsonl", '"loss": ', '"loss": 1', "losses"),
        ("metrics.jsonl", '"loss": ', '"loss": null, "was": ', "losses"),
        ("metrics.jsonl", '{"step": 7', '{"step": 17', "losses"),
    ],
)
def test_the_certificate_tells_what_differs(uninterrupted, tmp_path, file, old, new, differs):
    shutil.copytree(uninterrupted, tmp_path / "other")
    path = tmp_path / "other" / file
    path.write_text(path.read_text().replace(old, new, 1))
    for tolerance in (None, 1e-3):
        found = resume_proof.compare(uninterrupted, tmp_path / "other", 16, tolerance)
        assert not found["holds"] and [name for name, equal in found["equal"].items() if not equal] == [differs]


def test_a_second_run_in_the_workdir_of_a_living_one_is_refused(flags, tmp_path):
    flags = [*flags, f"--workdir={tmp_path}"]
    (first,) = start(flags, [PROGRAM])
    assert any(line.startswith("step  1/16") for line in first.stdout)
    first.send_signal(signal.SIGSTOP)
    ((status, _, error),) = finish(start(flags, [PROGRAM]))
    first.send_signal(signal.SIGCONT)
    assert status == 1
    who = f"process {first.pid} on {socket.gethostname()}"
    wanted = f"error: --workdir={tmp_path}: {who} is writing to it; wait for its end, or use another --workdir"
    assert error.splitlines()[-1] == wanted
    ((status, _, error),) = finish([first])
    assert status == 0, error


def test_a_process_that_never_comes_ends_the_others_in_one_line(flags, tmp_path):
    command = [*PROGRAM, *flags, f"--workdir={tmp_path}", "--join_seconds=1", "--process_count=2"]
    addresses = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            addresses.append(f"localhost:{free.getsockname()[1]}")
    waiting = [
        Program([*command, f"--coordinator_address={address}", f"--process_id={number}"])
        for number, address in enumerate(addresses)
    ]
    for number, (address, (status, _, error)) in enumerate(zip(addresses, finish(waiting))):
        assert status == 1
        waits, ends = error.splitlines()[-2:]
        assert waits == f"process {number} waits for all 2 processes of the run at {address}, at most 1 s"
        assert ends.startswith(f"error: not all 2 processes of the run came to {address} within 1 s")
