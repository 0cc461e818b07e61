r"""The training program.

python -m clippy_jax.main --config=configs/shapes.py --workdir=runs/shapes

python -m clippy_jax.main --config=configs/b16.py --workdir=runs/b16 \
    --config.input.train='/data/cc12m/{00000..01242}.tar'

Any field of the configuration can be overridden as `--config.FIELD=VALUE`. The same command continues a stopped run.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from clippy_jax.command_line import Parser, announce, importing, on_this_machine
from clippy_jax.config import Config, parse
from clippy_jax.config_parser import check_path
from clippy_jax.errors import InputError, exit_with_one_line, reading, reason


@exit_with_one_line
def _define_config() -> flags.FlagHolder:
    with reading("the command line", "see --help"):  # of which the definition looks at --flagfile
        return config_flags.DEFINE_config_file("config", None, "configuration file, for example configs/b16.py")


_CONFIG = _define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run: checkpoints, logs, configuration, tokenizer")
_COORDINATOR = flags.DEFINE_string("coordinator_address", None, "host:port of the first of several processes")
_PROCESS_COUNT = flags.DEFINE_integer("process_count", None, "how many processes train together")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "the number of this one, from 0")
_JOIN_SECONDS = flags.DEFINE_integer("join_seconds", 300, "how long to wait for the other processes", lower_bound=1)
_HEARTBEAT_SECONDS = flags.DEFINE_integer(
    "heartbeat_seconds", 100, "without a sign of life from a process for so long, the others end", lower_bound=2
)
_INTERRUPTED = flags.DEFINE_integer(
    "interrupted_exit_status", 0, "exit status of a run that a signal ended early, for launchers that go by it"
)
_FLAGS = (_CONFIG, _WORKDIR, _COORDINATOR, _PROCESS_COUNT, _PROCESS_ID, _JOIN_SECONDS, _HEARTBEAT_SECONDS, _INTERRUPTED)


@exit_with_one_line
def parse_flags(argv: list[str]) -> list[str]:
    """Reads the command line, with one line for a flag, a field or a file that does not exist."""
    if {"--help", "-h"} & set(argv):
        print(_help())
        sys.exit()
    argv = on_this_machine(argv)
    _check_overrides(argv)
    with reading("the command line", "see --help"):
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:
            raise InputError(f"{reason(error)}; see --help") from None
    if _WORKDIR.value == "":  # as that of a shell's variable which is not set
        raise InputError("--workdir is empty; name the folder of the run")
    return rest


def _help() -> str:
    """In the form of the other programs'; absl's own, `--helpfull`, has the flags of every library too."""
    description = "Trains on image-caption pairs; the same command continues a stopped run."
    parser = Parser("python -m clippy_jax.main", description, __doc__)
    for holder in _FLAGS:
        flag = flags.FLAGS[holder.name]
        default = "" if flag.default is None else f" ({flag.default})"
        parser.add_argument(f"--{flag.name}", required=flag.name in ("config", "workdir"), help=flag.help + default)
    parser.add_argument("--config.FIELD", metavar="VALUE", help="another value for a field of the configuration")
    return parser.format_help()


def _check_overrides(argv: list[str]) -> None:
    """Looks up the fields that are to be overridden; `config_flags` would answer a wrong one with a traceback."""
    without_overrides = flags.FlagValues()
    without_overrides.set_gnu_getopt()
    config = config_flags.DEFINE_config_file("config", flag_values=without_overrides, sys_argv=argv[:1])
    given = [value for flag, value in zip(argv, argv[1:]) if flag == "--config"]
    given += [argument.partition("=")[2] for argument in argv if argument.startswith("--config=")]
    for file in given:
        if not os.path.isfile(file.split(":")[0]):  # an argument of the configuration may follow
            raise InputError(f"--config={file} does not exist; give a configuration file, for example configs/b16.py")
    with reading(f"--config={given[-1]}" if given else "the command line"):
        without_overrides(argv, known_only=True)
        if config.value is None:
            return
        config.value.keys()  # a configuration file that is not there says so when it is looked into
    for argument in argv[1:]:
        name, *keys = argument.split("=")[0].split(".")
        if name.lstrip("-") in ("config", "noconfig"):
            check_path(keys, config.value)


def parse_with_config(parser: Parser, arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str], Config]:
    """Reads the command line of another program that takes the configuration of a training.

    Args:
      parser: of the program's own flags, `--config` among them.
      arguments: by default the command line.

    Returns:
      The program's own flags, those that name the configuration (`--config=FILE` and overrides), and what they give.

    Raises:
      InputError: there is no such flag, file or field, or a value is wrong.
    """
    arguments = on_this_machine(sys.argv[1:] if arguments is None else arguments)
    overrides = [argument for argument in arguments if argument.startswith(("--config.", "--noconfig."))]
    chosen = parser.parse_args([argument for argument in arguments if argument not in overrides])
    training_flags = [f"--config={chosen.config}", *overrides]
    argv = [parser.prog, *training_flags]
    _check_overrides(argv)
    private = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=private, sys_argv=argv)
    try:
        private(argv)
    except flags.Error as error:
        raise InputError(f"{error}; see --help") from None
    return chosen, training_flags, parse(config.value)


@exit_with_one_line
def main(argv: list[str]) -> None:
    """Checks the command, joins the other processes if there are any, and trains."""
    if len(argv) > 1:
        raise InputError(f"{argv[1]!r} is not a flag; options look like --config.input.batch_size=256")
    config = parse(_CONFIG.value)
    logging.set_verbosity(logging.WARNING)  # Orbax tells dozens of lines a checkpoint
    with importing():  # here, so that a wrong command is answered at once
        import jax

        from clippy_jax import processes
        from clippy_jax.host_tensorflow import import_tensorflow

        import_tensorflow()  # before clu does
        from clippy_jax.run.compilation import choose_optimization_level, keep_programs
        from clippy_jax.train import train_and_evaluate

    # JAX aborts a process when another one of its run has died. It says why; absl would add the stack of every thread.
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    processes.initialize(
        _COORDINATOR.value, _PROCESS_COUNT.value, _PROCESS_ID.value, _JOIN_SECONDS.value, _HEARTBEAT_SECONDS.value
    )
    with processes.failing_together(_HEARTBEAT_SECONDS.value):
        if jax.process_index() == 0:
            announce()
        keep_programs(_WORKDIR.value)
        choose_optimization_level()
        finished = train_and_evaluate(config, _WORKDIR.value)
    if not finished:
        sys.exit(_INTERRUPTED.value)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
