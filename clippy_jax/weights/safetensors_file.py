"""`.safetensors` files: arrays and text, nothing that could run; PyTorch is not needed."""

import os
from collections.abc import Mapping

import ml_dtypes  # teaches NumPy the type
import numpy as np
import safetensors
import safetensors.numpy

from clippy_jax.errors import InputError, reading

_DAMAGED = "is damaged or no safetensors file"


def read_safetensors(path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a file. bfloat16, which NumPy lacks, becomes float32.

    Raises:
      InputError: the file is missing or damaged, or has a type that NumPy lacks.
    """
    try:
        with reading(path, "get it again", _DAMAGED):
            with safetensors.safe_open(path, framework="np") as file:
                keys, metadata = file.keys(), file.metadata() or {}
            tensors = {key: _read_tensor(path, key) for key in keys}
    except InputError as error:
        if isinstance(error.__cause__, (TypeError, AttributeError)):
            raise InputError(f"{path} holds numbers of a type that NumPy lacks; re-save it as float32") from error
        raise
    halves = {key: value for key, value in tensors.items() if value.dtype == ml_dtypes.bfloat16}
    return tensors | {key: value.astype(np.float32) for key, value in halves.items()}, metadata


def write_safetensors(path: str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays and metadata.

    Raises:
      OSError: the file cannot be written.
    """
    with open(path, "wb") as file:
        mode = os.fstat(file.fileno()).st_mode
    try:
        # The writer takes the memory as it lies.
        contiguous = {key: np.asarray(value, order="C") for key, value in tensors.items()}
        safetensors.numpy.save_file(contiguous, path, dict(metadata))
        os.chmod(path, mode)  # it makes files that only their owner can read
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from None


def _read_tensor(path: str, key: str) -> np.ndarray:
    """Opens the file anew: what is read of a mapped file is this process's memory until the file is closed."""
    with safetensors.safe_open(path, framework="np") as file:
        return file.get_tensor(key)
