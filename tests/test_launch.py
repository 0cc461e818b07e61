"""The scripts of `launch/`, with other programs in the places of Python, Slurm and gcloud."""

import os
import pathlib
import subprocess
import sys

import pytest

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"


def start(script: str, folder: pathlib.Path, programs: dict[str, str], *flags: str, **environment: str):
    """Runs a script where programs are stand-ins that first note how they were called."""
    for name, body in programs.items():
        program = folder / name
        program.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> "{folder}/calls"\n{body}\n')
        program.chmod(0o755)
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(["bash", LAUNCH / script, *flags], env=os.environ | path | environment, timeout=60)


def calls(folder: pathlib.Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("script", sorted(path.name for path in LAUNCH.glob("*.sh")))
def test_scripts_are_bash(script):
    subprocess.run(["bash", "-n", LAUNCH / script], check=True)


@pytest.mark.parametrize("status, starts", [(0, 1), (1, 1), (137, 3)])
def test_a_run_that_was_killed_is_started_again_and_no_other(tmp_path, status, starts):
    done = start(
        "single_node.sh", tmp_path, {"python": f"exit {status}"}, "--workdir=a b", ATTEMPTS="3", PAUSE_SECONDS="0"
    )
    assert done.returncode == status
    assert calls(tmp_path) == ["python -m clippy_jax.main --workdir=a b"] * starts


def test_a_run_that_is_taken_away_ends_in_its_own_time(tmp_path):
    """SIGTERM reaches the program, which saves and exits; it is not started again."""
    saves = 'trap "echo saved >> calls; exit 0" TERM; kill -TERM $PPID; for i in {1..200}; do sleep 0.05; done; exit 9'
    done = start("single_node.sh", tmp_path, {"python": f"cd {tmp_path}; {saves}"}, PAUSE_SECONDS="0")
    assert done.returncode == 0 and calls(tmp_path) == ["python -m clippy_jax.main", "saved"]


def test_ctrl_c_reaches_a_run_once(tmp_path):
    """By the launcher alone: the terminal sends one to the process group, and two would end it at once."""
    same_group = "import os, sys; sys.exit(os.getpgrp() == os.getpgid(os.getppid()))"
    program = f"exec {sys.executable} -S -c '{same_group}'"
    assert start("single_node.sh", tmp_path, {"python": program}).returncode == 0


def test_every_worker_of_a_pod_gets_the_command_as_it_was_typed(tmp_path):
    flags = ["--workdir=gs://b/run", "--config.input.train=gs://b/{00000..00009}.tar"]
    assert start("tpu_pod.sh", tmp_path, {"gcloud": ""}, *flags, TPU="pod", ZONE="z").returncode == 0
    (call,) = calls(tmp_path)
    assert call.startswith("gcloud compute tpus tpu-vm ssh pod --zone=z --worker=all --command=cd clippy_jax &&")
    assert r"--config.input.train=gs://b/\{00000..00009\}.tar" in call
    assert start("tpu_pod.sh", tmp_path, {"gcloud": ""}, *flags, TPU="", ZONE="z").returncode != 0
