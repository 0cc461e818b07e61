"""The processes of a run: how they join, from the launcher that started them or from flags, speak and fail."""

import contextlib
import errno
import functools
import importlib.util
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # its client has no public name; Orbax takes it from here, too
from jax.experimental import multihost_utils

from clippy_jax.errors import InputError, bug_note, one_line, reason
from clippy_jax.processes import lost_process

_HOW_BY_FLAGS = "--coordinator_address=HOST:PORT (of the first process), --process_count and --process_id"

# What each launcher sets: variables that mark a started task, the number of processes, this process's number.
_SLURM = (("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_LOCALID"), "SLURM_NTASKS", "SLURM_PROCID")
_OPEN_MPI = ((), "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
_MPICH = ((), "PMI_SIZE", "PMI_RANK")

# What the errors of JAX begin with, of whatever kind, that another process may have caused.
_OF_ANOTHER_PROCESS = ("UNKNOWN: ", "INTERNAL: ", "UNAVAILABLE: ", "DEADLINE_EXCEEDED: ", "ABORTED: ", "CANCELLED: ")
_ENDED = "clippy_jax/ended/"  # keys of the service under which failing processes put their numbers
_SECONDS_TO_SPEAK = 3.0  # that the first process gives the others, which end with it, to say why they fail, too
_SECONDS_BETWEEN_LOOKS = 1.0  # at what the service says of the others


JOIN_SECONDS = 300
HEARTBEAT_SECONDS = 100


def initialize(
    coordinator_address: str | None = None,
    process_count: int | None = None,
    process_id: int | None = None,
    join_seconds: int = JOIN_SECONDS,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
) -> None:
    """Joins this process to the others of its run; does nothing where the process is alone.

    Slurm (`srun`), Open MPI 4, `torchrun`, indexed Kubernetes jobs and TPU pods need no flags, nor does JAX's own
    `JAX_COORDINATOR_ADDRESS` with `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`. Other MPI launchers need only the address.
    With one process per node, the process uses all of the node's GPUs; with several, each uses its own.
    `process_count=1` keeps a process alone whatever its environment says. Call it before anything touches a device.

    Args:
      coordinator_address: "host:port" at which the first process meets the others.
      process_count: processes of the run.
      process_id: number of this process, from 0.
      join_seconds: how long to wait for the others. When they have not come, this process says so and ends.
      heartbeat_seconds: without a sign of life from a process for so long, the others end.

    Raises:
      InputError: flags and environment do not describe a run, or the processes cannot meet.
    """
    if process_count == 1 and not process_id:
        return
    join = functools.partial(_join, join_seconds, heartbeat_seconds)
    if (coordinator_address, process_count, process_id) != (None, None, None):
        launched_count, launched_id = _launched()
        process_count = launched_count if process_count is None else process_count
        process_id = launched_id if process_id is None else process_id
        _check_flags(coordinator_address, process_count, process_id)
        join(coordinator_address=coordinator_address, num_processes=process_count, process_id=process_id)
    elif arguments := _told_by_environment():
        if arguments["num_processes"] > 1:
            _check_flags(*(arguments[name] for name in ("coordinator_address", "num_processes", "process_id")))
            join(**arguments)
    elif (count := _launched()[0] or 1) > 1:
        tells_address = "OMPI_MCA_orte_hnp_uri" if _OPEN_MPI[1] in os.environ else "SLURM_STEP_NODELIST"
        if tells_address not in os.environ:
            raise InputError(
                f"this MPI launcher started {count} processes but does not say where the first one is; "
                "add --coordinator_address=HOST:PORT"
            )
        join(local_device_ids=_local_device_ids(count))
    elif _in_indexed_kubernetes_job():
        if importlib.util.find_spec("kubernetes") is None:
            raise InputError(
                f"an indexed Kubernetes job needs the package kubernetes (pip install kubernetes), or {_HOW_BY_FLAGS}"
            )
        join()
    elif os.environ.get("TPU_ML_PLATFORM") == "JAX":  # set by `import jax` on a TPU machine
        join()


def log_line(text: str) -> None:
    """Prints on the first process only, at once, as `say` does."""
    if jax.process_index() == 0:
        say(text)


def say(text: str) -> None:
    """Prints at once if anybody reads it: a run outlives its terminal, and the `tee` that Ctrl+C ends as well."""
    try:
        print(text, flush=True)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        with open(os.devnull, "w") as nowhere:  # also for what is left in the buffer, which Python writes at its exit
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def gather_texts(text: str) -> list[str]:
    """The texts of all processes, in their order. All processes call it together; it waits for the devices."""
    if jax.process_count() == 1:
        return [text]
    mine = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(mine.size)).tolist()
    padded = multihost_utils.process_allgather(np.pad(mine, (0, max(1, *sizes) - mine.size)))
    return [row[:size].tobytes().decode() for row, size in zip(padded, sizes)]


@contextlib.contextmanager
def failing_together(heartbeat_seconds: int = HEARTBEAT_SECONDS) -> Iterator[None]:
    """Surrounds the work of the processes of a run: an exception in one of them ends them all.

    The others may be waiting for this process in a collective, and at its exit JAX would have it wait for them. So it
    says what is wrong, tells the others and leaves at once; they follow within seconds. One that is killed cannot tell
    them: JAX ends them when they miss it, within `heartbeat_seconds`. Each says in one line which process it was, here
    or in `lost_process.py`. A process that is alone just raises.
    """
    over = threading.Event()
    looking = threading.Thread(target=_end_with_another, args=(over,), daemon=True)
    if jax.process_count() > 1:
        lost_process.watch_for()
        looking.start()
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1:
            raise
        if str(error).startswith(_OF_ANOTHER_PROCESS):
            _end_for_another(heartbeat_seconds)
        if message := one_line(error):
            print(f"error: {message}", file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
            print(bug_note(), file=sys.stderr, flush=True)
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            _service().key_value_set(f"{_ENDED}{jax.process_index()}", "", allow_overwrite=True)
        time.sleep(_SECONDS_TO_SPEAK if jax.process_index() == 0 else 0)
        sys.stdout.flush()
        os._exit(1)
    finally:
        over.set()
        if looking.is_alive():
            looking.join(_SECONDS_TO_SPEAK)


def _service() -> Any:
    """Through which the processes of a run tell each other what they need to know outside of computations."""
    return distributed.global_state.client


def _end_for_another(heartbeat_seconds: int) -> None:
    """Ends this process with one line if another one turns out to have ended; returns if none has.

    One that fails says so to JAX's service. One that is killed or hangs is missed by the service when its heartbeats
    fail to come, and JAX then ends this process (`lost_process.py` has the line).
    """
    deadline = time.monotonic() + heartbeat_seconds + _SECONDS_TO_SPEAK
    while time.monotonic() < deadline:
        if ended := _others_that_ended():
            _leave_for(ended)
        time.sleep(0.2)


def _end_with_another(over: threading.Event) -> None:
    """Ends this process when another one has said that it ended, unless it comes to an end of its own meanwhile.

    Waiting in a collective, it would not notice: whether the computation fails, too, is up to the library beneath it.
    """
    while not over.wait(_SECONDS_BETWEEN_LOOKS):
        # Gone before the first process is, whose service JAX would miss aloud.
        if (ended := _others_that_ended()) and not over.wait(_SECONDS_TO_SPEAK - 1.5 * _SECONDS_BETWEEN_LOOKS):
            _leave_for(ended)


def _others_that_ended() -> list[str]:
    """The numbers of processes that said so; none where the service itself is lost, and JAX ends this process."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        numbers = [key.rpartition("/")[2] for key, _ in _service().key_value_dir_get(_ENDED)]
        return [number for number in numbers if number != str(jax.process_index())]
    return []


def _leave_for(ended: Sequence[str]) -> None:
    print(lost_process.line_that_names(ended), file=sys.stderr, flush=True)
    os._exit(1)


def _launched() -> tuple[int | None, int | None]:
    """Process count and this process's number as the launcher tells; None each where there is no launcher."""
    for markers, count, number in (_OPEN_MPI, _SLURM, _MPICH):
        if all(variable in os.environ for variable in (*markers, count, number)):
            return _number(count), _number(number)
    return None, None


def _told_by_environment() -> dict[str, Any] | None:
    """What JAX's own variables or those of torchrun say; None without either."""
    own = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    if missing := [name for name in own if name not in os.environ]:
        if len(missing) < len(own):
            raise InputError(
                f"{' and '.join(missing)} missing in the environment, which has others of {', '.join(own)}"
            )
    else:
        address, count, number = own
        values = os.environ[address], _number(count), _number(number)
        return dict(zip(("coordinator_address", "num_processes", "process_id"), values))
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK") if name not in os.environ]:
        if "WORLD_SIZE" not in missing and _number("WORLD_SIZE") > 1:
            if _launched()[0] is None and not _in_indexed_kubernetes_job():  # these tell what is missing
                raise InputError(
                    f"the environment has WORLD_SIZE={os.environ['WORLD_SIZE']} without {' and '.join(missing)}; start "
                    "each process with all four, as torchrun does, or with --process_count=1 to leave it alone"
                )
        return None
    several = _number("LOCAL_WORLD_SIZE") > 1 if "LOCAL_WORLD_SIZE" in os.environ else False
    return {
        # torchrun itself listens at its port.
        "coordinator_address": f"{os.environ['MASTER_ADDR']}:{_number('MASTER_PORT') + 1}",
        "num_processes": _number("WORLD_SIZE"),
        "process_id": _number("RANK"),
        "local_device_ids": [_number("LOCAL_RANK")] if several else [],
    }


def _number(variable: str) -> int:
    try:
        return int(os.environ[variable])
    except (KeyError, ValueError):
        raise InputError(f"{variable}={os.environ.get(variable, '')!r} in the environment is not a number") from None


def _in_indexed_kubernetes_job() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and "JOB_COMPLETION_INDEX" in os.environ


def _local_device_ids(process_count: int) -> Sequence[int] | None:
    """No restriction for the only process of a node; else JAX's own choice, a GPU for each."""
    alone = "SLURM_STEP_NUM_NODES" in os.environ and process_count == _number("SLURM_STEP_NUM_NODES")
    alone |= os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
    return [] if alone else None


def _check_flags(coordinator_address: str | None, process_count: int | None, process_id: int | None) -> None:
    flags = {"--coordinator_address": coordinator_address, "--process_count": process_count, "--process_id": process_id}
    missing = [name for name, value in flags.items() if value is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} missing; a run of several processes needs {_HOW_BY_FLAGS}")
    host, _, port = coordinator_address.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"--coordinator_address must be HOST:PORT, not {coordinator_address!r}")
    if process_count < 1:
        raise InputError(f"--process_count must be at least 1, not {process_count}")
    if not 0 <= process_id < process_count:
        raise InputError(f"--process_id must be from 0 to {process_count - 1} (--process_count - 1), not {process_id}")


def _join(join_seconds: int, heartbeat_seconds: int, **arguments) -> None:
    count, number = (arguments.get(name) for name in ("num_processes", "process_id"))
    who = f"all {count} processes of the run" if count else "the processes of the run"
    where = arguments.get("coordinator_address") or "the address that the launcher tells"
    me = "this process" if number is None else f"process {number}"
    print(f"{me} waits for {who} at {where}, at most {join_seconds} s", file=sys.stderr, flush=True)

    def give_up() -> None:  # JAX itself would abort, with a page of C++ addresses
        came = f"not {who} came to {where} within {join_seconds} s"
        print(f"error: {came}; look at the others' output, or raise --join_seconds", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(join_seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            **arguments, initialization_timeout=join_seconds + 60, heartbeat_timeout_seconds=heartbeat_seconds
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the processes of this run cannot meet: {reason(error)}; check {_HOW_BY_FLAGS}") from error
    finally:
        timer.cancel()
