"""One of the two processes that `test_processes.py` starts: joins, sums, saves; prints what it saw as JSON."""

import json
import os
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from clippy_jax.config import CheckpointConfig
from clippy_jax.mesh import make_mesh
from clippy_jax.processes import initialize, log_line
from clippy_jax.run.checkpointing import Checkpointer
from clippy_jax.run.interruption import Interruption


def main(workdir: str, coordinator_address: str, process_id: str, warning: str) -> None:
    initialize(coordinator_address, 2, int(process_id))
    mesh = make_mesh()
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    local = np.arange(2, dtype=np.float32) + 10 * jax.process_index()
    total = jax.jit(jnp.sum, out_shardings=whole)(jax.make_array_from_process_local_data(split, local))
    rows = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    state = {
        "params": {
            "split": jax.make_array_from_callback(rows.shape, split, lambda index: rows[index]),
            "whole": jax.device_put(rows[0], whole),
        },
        "key": jax.jit(jax.random.key, out_shardings=whole)(5),
    }

    # The clocks disagree: the first process's runs a minute a step, the second one's ten minutes a step.
    step = 0
    config = CheckpointConfig(every_steps=0, every_minutes=5.0, keep=9, keep_every_steps=0)

    def clock() -> float:
        return min(step, 13) * (600.0 if jax.process_index() else 60.0)

    with (
        Checkpointer(workdir, config, clock_every_steps=2, clock=clock) as checkpointer,
        Interruption() as interruption,
    ):
        saved = []
        for step in range(1, 14):
            if checkpointer.is_due(step):
                checkpointer.save(step, state)
                saved.append(step)
        if jax.process_index() == 1:
            os.kill(os.getpid(), signal.Signals[warning])  # the scheduler's, to one of them
        while not interruption.requested(step := step + 1) and step < 1000:
            time.sleep(0.05)
        checkpointer.save(step, state)
    log_line(f"printed by process {process_id}")
    print(json.dumps({"processes": jax.process_count(), "total": float(total), "saved": saved, "warned": step}))


if __name__ == "__main__":
    main(*sys.argv[1:])
