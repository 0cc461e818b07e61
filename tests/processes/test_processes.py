import json
import os
import socket

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from clippy_jax import processes
from clippy_jax.config import CheckpointConfig
from clippy_jax.errors import InputError
from clippy_jax.mesh import make_mesh
from clippy_jax.run.checkpointing import Checkpointer
from tests.programs import Program
from tests.xla_flags import xla_flags

LAUNCHER_PREFIXES = ("SLURM_", "OMPI_", "PMI_", "KUBERNETES_", "JOB_COMPLETION", "TPU_", "MASTER_", "JAX_NUM", "WORLD")
SLURM_STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_LOCALID": "0",
    "SLURM_PROCID": "1",
}
TORCHRUN = {"MASTER_ADDR": "first", "MASTER_PORT": "29500", "WORLD_SIZE": "4", "RANK": "3"}


@pytest.mark.parametrize("warning", ["SIGTERM", "SIGUSR1"])
def test_two_processes_sum_and_save_at_the_same_steps(tmp_path, warning):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        Program(
            ["-m", "tests.processes.two_processes", tmp_path, address, number, warning],
            {"XLA_FLAGS": xla_flags(devices=2)},
        )
        for number in range(2)
    ]
    try:
        outputs = [process.communicate() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "SIGTERM: stopping after this step, as a process of this run is asked to\n" in outputs[0][0]
    # Gloo prints as well, several threads at once, so that its lines may be torn.
    lines = [[line for line in output.splitlines() if line.startswith(("printed", "{"))] for output, _ in outputs]
    # The first process's five minutes are over at step 5, looked at in 6; then at 11, looked at in 12.
    # After 13 steps the scheduler warns the second one, and both save at the same step.
    first, second = (json.loads(line[-1]) for line in lines)
    warned = first["warned"]
    assert first == {"processes": 2, "total": 0 + 1 + 10 + 11, "saved": [6, 12], "warned": warned} == second
    assert 13 < warned < 1000
    assert lines[0][:-1] == ["printed by process 0"] and lines[1][:-1] == []

    # What four devices of two processes saved, this process reads onto its eight.
    rows = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    split = NamedSharding(make_mesh(), PartitionSpec("data"))
    assert split.mesh.size == 8
    abstract = {
        "split": jax.ShapeDtypeStruct(rows.shape, rows.dtype, sharding=split),
        "whole": jax.ShapeDtypeStruct(rows[0].shape, rows.dtype, sharding=SingleDeviceSharding(jax.devices()[0])),
    }
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=NamedSharding(split.mesh, PartitionSpec()))
    never = CheckpointConfig(every_steps=0, every_minutes=0.0, keep=9, keep_every_steps=0)
    for step in (6, 12, warned):
        with Checkpointer(tmp_path, never, clock_every_steps=1, read_before=step + 1) as checkpointer:
            restored = checkpointer.restore({"params": abstract, "key": key})
        params = restored["params"]
        assert restored["key"] == jax.random.key(5)
        assert params["split"].sharding == split
        np.testing.assert_array_equal(params["split"], rows)
        np.testing.assert_array_equal(params["whole"], rows[0])


@pytest.fixture
def joined(monkeypatch):
    """An environment without a launcher, and the arguments that reach JAX."""
    for name in os.environ:
        if name.startswith(LAUNCHER_PREFIXES):
            monkeypatch.delenv(name)
    calls = []

    def initialize(initialization_timeout, heartbeat_timeout_seconds, **arguments):
        calls.append(arguments)

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    return calls


def set_environment(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_NTASKS": "1", **SLURM_STEP},
        {"WORLD_SIZE": "1", "RANK": "0"},
        {"SLURM_NTASKS": "8", "SLURM_JOB_ID": "7"},  # a shell inside an allocation: no task was started by srun
        {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
        {"MASTER_ADDR": "first", "MASTER_PORT": "29500", "WORLD_SIZE": "1", "RANK": "0"},
        {"JAX_COORDINATOR_ADDRESS": "first:12", "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"},
    ],
)
def test_alone_nothing_happens(joined, monkeypatch, environment):
    set_environment(monkeypatch, environment)
    processes.initialize()
    assert joined == []


@pytest.mark.parametrize(
    "environment, arguments",
    [
        ({"SLURM_NTASKS": "16", "SLURM_STEP_NUM_NODES": "2", **SLURM_STEP}, {"local_device_ids": None}),
        ({"SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "2", **SLURM_STEP}, {"local_device_ids": []}),
        (
            {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1", "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:3"},
            {"local_device_ids": None},
        ),
        ({"TPU_ML_PLATFORM": "JAX"}, {}),
        (
            {"JAX_COORDINATOR_ADDRESS": "first:12", "JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "2"},
            {"coordinator_address": "first:12", "num_processes": 3, "process_id": 2},
        ),
        (
            {**TORCHRUN, "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"},
            {"coordinator_address": "first:29501", "num_processes": 4, "process_id": 3, "local_device_ids": [1]},
        ),
        (
            {**TORCHRUN, "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"},
            {"coordinator_address": "first:29501", "num_processes": 4, "process_id": 3, "local_device_ids": []},
        ),
    ],
)
def test_launchers_are_found(joined, monkeypatch, environment, arguments):
    set_environment(monkeypatch, environment)
    processes.initialize()
    assert joined == [arguments]
    processes.initialize(process_count=1)
    assert joined == [arguments]


def test_address_is_enough_where_a_launcher_gives_the_rest(joined, monkeypatch):
    set_environment(monkeypatch, {"PMI_SIZE": "4", "PMI_RANK": "3"})
    processes.initialize("first:1234")
    assert joined == [{"coordinator_address": "first:1234", "num_processes": 4, "process_id": 3}]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("first:1", None, None), "--process_count and --process_id missing; a run of several processes needs"),
        ((None, 2, 0), "--coordinator_address missing"),
        (("first", 2, 0), "--coordinator_address must be HOST:PORT, not 'first'"),
        (("first:1", 0, 0), "--process_count must be at least 1, not 0"),
        (("first:1", 2, 2), "--process_id must be from 0 to 1 .*, not 2"),
        (("first:1", 1, 1), "--process_id must be from 0 to 0 .*, not 1"),
    ],
)
def test_flags_that_do_not_describe_a_run_are_refused(joined, arguments, message):
    with pytest.raises(InputError, match=message):
        processes.initialize(*arguments)
    assert joined == []


@pytest.mark.parametrize(
    "environment, message",
    [
        (
            {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "SLURM_NTASKS": "2", **SLURM_STEP},
            "started 4 processes but .* add --coordinator_address=HOST:PORT",
        ),
        ({"PMI_SIZE": "4", "PMI_RANK": "3"}, "started 4 processes but .* add --coordinator_address=HOST:PORT"),
        ({"JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "2"}, "JAX_COORDINATOR_ADDRESS missing in the environment"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE=2 without MASTER_ADDR and MASTER_PORT; start each"),
        ({**TORCHRUN, "WORLD_SIZE": "four"}, "WORLD_SIZE='four' in the environment is not a number"),
        ({"SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "", **SLURM_STEP}, "SLURM_STEP_NUM_NODES='' in the environment"),
        ({"PMI_SIZE": "4", "PMI_RANK": ""}, "PMI_RANK='' in the environment is not a number"),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"},
            "needs the package kubernetes .*, or --coordinator_address",
        ),
    ],
)
def test_launchers_that_need_more_say_so(joined, monkeypatch, environment, message):
    set_environment(monkeypatch, environment)
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=message):
        processes.initialize()
    assert joined == []


def test_processes_that_cannot_meet_are_one_clear_line(joined, monkeypatch):
    def fail(**arguments):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed\n out")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(InputError, match="cannot meet: DEADLINE_EXCEEDED: Barrier timed out; check --coordinator_addr"):
        processes.initialize("first:1", 2, 0)
