"""Runs before anything imports jax or TensorFlow: CPU only, eight devices, offline, every program compiled once."""

import atexit
import contextlib
import importlib
import os
import shutil
import tempfile

from tests.xla_flags import xla_flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), xla_flags(devices=8)])
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["HF_HUB_OFFLINE"] = "1"

# Tests compile the same programs again and again, in this process, in pytest's workers and in the programs that tests
# start: all share one folder of them, which the first process makes and removes. A test of the cache itself takes
# JAX_COMPILATION_CACHE_DIR out of its environment.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="clippy_jax_tests_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# PyTorch's builds for GPUs bring triton, which crashes where TensorFlow was imported before it.
with contextlib.suppress(ImportError):
    importlib.import_module("triton")

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
