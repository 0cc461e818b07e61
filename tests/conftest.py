"""Runs before anything imports jax or TensorFlow: CPU only, eight devices, offline, every program compiled once."""

import atexit
import contextlib
import gc
import importlib
import os
import shutil
import tempfile

from tests.xla_flags import xla_flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), xla_flags(devices=8)])
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["HF_HUB_OFFLINE"] = "1"

# Python looks for garbage after every 700 new objects, far too often among the millions that the libraries hold.
gc.set_threshold(100_000, 5, 3)

# One thread in PyTorch's loops, since pytest's workers keep all cores busy: more only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The first process, pytest's workers and the programs that tests start share one folder, which the first one makes and
# removes: of `tests/prefork.py`'s server; of compiled programs, since tests compile the same ones again and again (a
# test of the cache itself takes JAX_COMPILATION_CACHE_DIR out of its environment); and of what libraries leave behind
# where temporary files go. What tests write into their own folders stays where pytest keeps it.
if "CLIPPY_JAX_TESTS_FOLDER" not in os.environ:
    os.environ["CLIPPY_JAX_TESTS_FOLDER"] = tempfile.mkdtemp(prefix="clippy_jax_tests_")
    os.environ["CLIPPY_JAX_TESTS_PROCESS"] = str(os.getpid())
    atexit.register(shutil.rmtree, os.environ["CLIPPY_JAX_TESTS_FOLDER"], ignore_errors=True)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.environ["TMPDIR"] = os.path.join(os.environ["CLIPPY_JAX_TESTS_FOLDER"], "temporary")
    os.mkdir(os.environ["TMPDIR"])
    tempfile.tempdir = None  # which has been asked for, and would be remembered
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(os.environ["CLIPPY_JAX_TESTS_FOLDER"], "compiled"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"  # keeping a program costs as much as a small one
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # compiling takes longer with each operation's source lines
os.environ["CLIPPY_JAX_TESTS_SHORT_END"] = "1"  # what tests/prefork.py says of it

# A worker ends with its last test: taking down what it holds, object by object, takes seconds that nobody needs.
# Registered before all others, this is done after them.
if "PYTEST_XDIST_WORKER" in os.environ:
    atexit.register(os._exit, 0)

# PyTorch's builds for GPUs bring triton, which crashes where TensorFlow was imported before it.
with contextlib.suppress(ImportError):
    importlib.import_module("triton")


# Whose tests start processes and wait for them. They come first: at the end, one worker would wait for the other's.
_LONGEST = ("test_main.py", "test_train.py", "test_benchmark.py", "test_precision_curves.py", "test_diverged_runs.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in _LONGEST)


def pytest_sessionfinish():
    """From here on nothing is garbage: pytest and Python look for it several times before they end."""
    gc.freeze()


# ruff: noqa: E402, F401 (after the settings above; fixtures are found by their names)
from tests.errors_document import pytest_addoption, pytest_configure
from tests.inputs import (
    demo_folder,
    encoded,
    input_config,
    photo,
    shards,
    spiece_folder,
    tokenizer_json_folder,
    write_shard,
    write_tar,
)
