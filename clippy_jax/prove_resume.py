r"""Kills a training again and again at random moments, and certifies that nothing of it shows in what it comes to.

python -m clippy_jax.prove_resume --config=configs/shapes.py --workdir=runs/proof \
    --config.schedule.stop_step=40 --config.checkpoint.every_steps=5

python -m clippy_jax.prove_resume --config=configs/shapes.py --workdir=runs/moved --layouts=1x8,2x4,1x4 --kills=9

Prints a table and writes WORKDIR/certificate.json; the exit status is 0 if all that it claims holds, else 1.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import jax
from absl import logging

from clippy_jax.command_line import Parser
from clippy_jax.errors import InputError, exit_with_one_line
from clippy_jax.main import parse_with_config
from clippy_jax.run import resume_proof
from clippy_jax.run.killed_runs import Layout

# The devices that are here, as another process sees them: this one must not hold them while the runs need them.
_DEVICES = "import json, jax; print(json.dumps([jax.default_backend(), jax.device_count()]))"
_CPU_DEVICES = 8


def flags() -> Parser:
    """The flags of this program; `--config.FIELD=VALUE` come on top."""
    parser = Parser("python -m clippy_jax.prove_resume", __doc__.partition("\n")[0], __doc__)
    parser.add_argument("--config", required=True, help="configuration file; any --config.FIELD=VALUE overrides it")
    parser.add_argument("--workdir", required=True, help="folder for the runs and the certificate")
    parser.add_argument("--kills", type=int, default=6, help="kills of each disturbed run (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the signals (%(default)s)")
    parser.add_argument(
        "--layouts", help="PROCESSESxDEVICES of the starts in turn, like 1x8,2x4,1x4; by default what is found here"
    )
    parser.add_argument(
        "--loss_tolerance",
        type=float,
        default=1e-3,
        help="largest relative difference of a loss where the layout changes (%(default)s)",
    )
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the runs, prints the table and exits with 0 or 1."""
    logging.set_verbosity(logging.ERROR)  # Orbax says what it does not find
    jax.config.update("jax_platforms", "cpu")  # in this process alone: the devices are the runs'
    chosen, training_flags, config = parse_with_config(flags(), arguments)
    if chosen.kills < 1:
        raise InputError(f"--kills must be at least 1, not {chosen.kills}")
    backend, devices = json.loads(
        subprocess.run([sys.executable, "-c", _DEVICES], stdout=subprocess.PIPE, text=True, check=True).stdout
    )
    on_cpu = backend == "cpu"
    layouts = [Layout.parse(text) for text in chosen.layouts.split(",")] if chosen.layouts else _found(on_cpu, devices)
    certificate = resume_proof.prove_resume(
        config,
        training_flags,
        pathlib.Path(chosen.workdir),
        layouts,
        on_cpu,
        chosen.kills,
        chosen.seed,
        chosen.loss_tolerance,
        lambda line: print(line, flush=True),
    )
    print(f"\n{resume_proof.table(certificate)}\n\nwritten: {chosen.workdir}/{resume_proof.CERTIFICATE}")
    sys.exit(0 if certificate["holds"] else 1)


def _found(on_cpu: bool, devices: int) -> list[Layout]:
    """All devices, two processes with half of them each, and one process with half of them, where there are as many."""
    devices = _CPU_DEVICES if on_cpu else devices
    half = devices // 2
    return [Layout(1, devices), *([Layout(2, half), Layout(1, half)] if devices % 2 == 0 else [])]


if __name__ == "__main__":
    main()
