"""PyTorch's own files (`.pt`, `.pth`, `.bin`), read without trusting them.

Such a file is a pickle, and a pickle may run any program. They are read with PyTorch's weights-only reader, which knows
tensors and plain containers and refuses everything else. Two harmless things that training checkpoints contain are let
in besides: `argparse.Namespace` and NumPy's number scalars, the latter through stand-ins of our own, so that no NumPy
internals are reached from a file.
"""

import argparse
import os
import pickle
import re
import warnings
import zipfile
from typing import Any

import numpy as np

from clippy_jax.errors import InputError


def read_torch_file(path: str) -> Any:
    """What `torch.save` wrote, with every tensor as a NumPy array (mapped from the file where its format allows it).

    bfloat16, which NumPy lacks, becomes float32.

    Raises:
      InputError: PyTorch is not installed; the file is missing, damaged, of another kind, or holds more than weights.
    """
    torch = _import_torch(path)
    _check_kind(path)
    try:
        with torch.serialization.safe_globals(_ALLOWED), warnings.catch_warnings(action="ignore"):
            contents = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        return _to_numpy(contents, torch, path)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"holds Python code ({found[1]})" if found else "is damaged, no PyTorch file, or holds more than weights"
        raise InputError(
            f"{path} {what}; it was refused and nothing in it was run. Get it again, from a source you trust"
        ) from None
    except InputError:
        raise
    # A damaged pickle makes the reader fail in whatever way it happens to.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0][:150]
        raise InputError(f"{path} is damaged or no PyTorch file; get it again ({reason})") from None


def write_torch_file(path: str, contents: Any) -> None:
    """Writes nested containers with NumPy arrays as `torch.save` does with tensors.

    An array that appears twice is stored once, as PyTorch does with a shared tensor.

    Raises:
      InputError: PyTorch is not installed.
      OSError: the file cannot be written.
    """
    torch = _import_torch(path)
    tensors = {}

    def to_tensor(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if id(value) not in tensors:
                tensors[id(value)] = torch.from_numpy(np.array(value, order="C"))
            return tensors[id(value)]
        if isinstance(value, dict):
            return {key: to_tensor(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(to_tensor(item) for item in value)
        return value

    with open(path, "wb") as file:
        torch.save(to_tensor(contents), file)


class _NumberType:
    """Stands in for `numpy.dtype` while a file is read: knows numbers only."""

    def __init__(self, name: str, *_):
        if not re.fullmatch(r"[biuf][1248]", name):
            raise pickle.UnpicklingError(f"NumPy type {name!r} is no number")
        self.name, self.order = name, "<"

    def __setstate__(self, state: tuple):
        if state[1] not in ("<", ">", "|"):
            raise pickle.UnpicklingError(f"byte order {state[1]!r}")
        self.order = state[1]


def _number(kind: _NumberType, data: bytes) -> Any:
    """Stands in for NumPy's constructor of scalars."""
    return np.frombuffer(data, kind.order + kind.name, count=1)[0].item()


_ALLOWED = [
    argparse.Namespace,
    (_NumberType, "numpy.dtype"),
    (_number, "numpy.core.multiarray.scalar"),  # the name before NumPy 2
    (_number, "numpy._core.multiarray.scalar"),
]


def _import_torch(path: str):
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{path}: PyTorch's own files need PyTorch (pip install torch); .safetensors files do without it"
        ) from None
    return torch


def _check_kind(path: str) -> None:
    """Names the usual wrong files, which the reader's own messages do not."""
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if not start:
        raise InputError(f"{path} is empty; get it again")
    if start.lstrip()[:1] == b"<":
        raise InputError(f"{path} is a web page, not weights; the download went wrong, get it again")
    if start.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a pointer of Git LFS, not the weights; run `git lfs pull`")
    if start.startswith(b"PK"):
        _check_archive(path)


def _check_archive(path: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile:
        raise InputError(f"{path} is truncated: its directory, which comes last, is missing; get it again") from None
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") for name in names):
        raise InputError(f"{path} is a TorchScript program, not weights; save its state_dict() instead")
    if not any(name.endswith("/data.pkl") for name in names):
        raise InputError(f"{path} is a zip archive but not one of PyTorch; unpack it and give the file inside")
    # PyTorch stores without compression; a compressed archive can unfold to any size.
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise InputError(f"{path} is compressed, which PyTorch's files are not; get it again, from a source you trust")


def _to_numpy(value: Any, torch: Any, path: str) -> Any:
    if isinstance(value, torch.Tensor):
        return _tensor_to_numpy(value.detach(), torch, path)
    if isinstance(value, dict):
        return {key: _to_numpy(item, torch, path) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_numpy(item, torch, path) for item in value)
    return value


def _tensor_to_numpy(tensor: Any, torch: Any, path: str) -> np.ndarray:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise InputError(f"{path} holds a sparse, quantised or empty-shelled tensor; weights are plain tensors")
    # With strides of zero a few bytes can pose as terabytes.
    if tensor.numel() * tensor.element_size() > os.path.getsize(path):
        raise InputError(f"{path} holds a tensor of {list(tensor.shape)}, which is more than is in the file")
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
