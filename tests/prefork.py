"""Starts Python programs for the tests without the seconds that their imports take.

`python -m tests.prefork SOCKET OWNER` imports what programs of this project import, and waits. For each request it
forks, and the child becomes the program that was asked for: with its own arguments, environment, folder, standard
streams and process id. Nothing of JAX or TensorFlow runs before the fork. The server ends with the process OWNER.

A program ends as any other does, unless `CLIPPY_JAX_TESTS_SHORT_END` in its environment is more than "": then what it
registered for its end is done, but its modules are not taken down one by one, which takes half a second.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading

# What a training imports, whatever it is told; the program's own module comes after the fork.
IMPORTS = ("clippy_jax.train", "transformers.models.auto.tokenization_auto", "clippy_jax.evaluators")


def serve(path: str, owner: int) -> dict | None:
    """Answers requests until the owner ends. Returns in each child, with what it is to run."""
    wake_up, woken = socket.socketpair()
    for end in (wake_up, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_up.fileno(), warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(16)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listening, woken, *running.values()], [], [], 1.0)
            try:
                os.kill(owner, 0)
            except ProcessLookupError:
                return None
            if woken in ready:
                woken.recv(4096)
                for number in list(running):
                    ended, status = os.waitpid(number, os.WNOHANG)
                    if ended:
                        with running.pop(number) as connection, contextlib.suppress(BrokenPipeError):
                            connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            for number, connection in list(running.items()):
                if connection in ready:  # who asked for it has been killed, and means it
                    os.kill(number, signal.SIGKILL)
                    running.pop(number).close()
                    os.waitpid(number, 0)
            if listening in ready:
                connection, _ = listening.accept()
                request, streams, _, _ = socket.recv_fds(connection, 4096, 3)
                while not request.endswith(b"\n"):
                    request += connection.recv(4096)
                number = os.fork()
                if number == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for end in (wake_up, woken, connection, *running.values()):
                        end.close()
                    for own, given in enumerate(streams):
                        os.dup2(given, own)
                        os.close(given)
                    return json.loads(request)
                for stream in streams:
                    os.close(stream)
                connection.sendall(b"%d\n" % number)
                running[number] = connection


def keep_programs_of_all_processes() -> None:
    """JAX keeps what the first process of a run compiles, in a cache that the others look into as well, under keys of
    their own. Here each keeps its programs: tests start the same processes again and again, and the first waits for
    the others."""
    import jax
    from jax._src import compilation_cache, compiler

    def write(key, seconds, name, backend, executable, *callbacks):  # which newer versions of JAX do not tell
        if not any(callbacks) and seconds >= jax.config.jax_persistent_cache_min_compile_time_secs:
            compilation_cache.put_executable_and_time(key, name, executable, backend, int(seconds))

    compiler._cache_write = write


def become(executable: str, arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Runs what `EXECUTABLE ARGUMENTS` would, if it is a Python interpreter, in this process."""
    sys.executable = executable
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.path[1:1] = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    match arguments:
        case ["-m", module, *options]:
            sys.argv = [module, *options]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *options]:
            sys.argv = ["-c", *options]
            exec(code, {"__name__": "__main__"})
        case [path, *options]:
            sys.argv, sys.path[0] = [path, *options], os.path.dirname(path)
            runpy.run_path(path, run_name="__main__")


def run_to_a_short_end(program: dict) -> None:
    """`become`, and the end that Python makes of a program but for the modules; a traceback takes Python's own."""
    try:
        become(**program)
        status = 0
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):
            raise
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    gc.set_threshold(100_000, 5, 3)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a pool of threads would not survive the fork
    for name in IMPORTS:
        importlib.import_module(name)
    keep_programs_of_all_processes()
    gc.freeze()  # children do not look through it again
    request = serve(sys.argv[1], int(sys.argv[2]))
    if request is not None:
        short = request["environment"].get("CLIPPY_JAX_TESTS_SHORT_END")
        run_to_a_short_end(request) if short else become(**request)
