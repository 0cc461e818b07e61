"""The programs of this folder as functions, where nothing is installed but JAX. Copied into each folder as load.py."""

import functools
import pathlib
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.append(str(FOLDER))  # its flatbuffers, for where none is installed: jax.export reads programs with it

import jax  # noqa: E402
import jax.export  # noqa: E402


@functools.cache
def params(tower: str) -> dict[str, jax.Array]:
    """The parameters of "image" or "text", on the default device."""
    return jax.device_put(dict(np.load(FOLDER / f"{tower}.npz")))


def load(name: str):
    """The program NAME.stablehlo as a function of a batch of any size; compiled for the device when it is called."""
    program = jax.jit(jax.export.deserialize(bytearray((FOLDER / f"{name}.stablehlo").read_bytes())).call)
    return lambda batch: program(params(name.partition("_")[0]), batch)
