"""PyTorch's own files (`.pt`, `.pth`, `.bin`), read without trusting them.

Such a file is a pickle, and a pickle may run any program. They are read with PyTorch's weights-only reader, which knows
tensors and plain containers and refuses everything else. What training checkpoints hold besides (arguments, paths,
NumPy's arrays and random states, objects of classes that nobody has here) is read through stand-ins of our own, which
do nothing: no class or function that a file names is ever reached.
"""

import argparse
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from clippy_jax.errors import InputError, reading


def read_torch_file(path: str) -> Any:
    """What `torch.save` wrote, with every tensor as a NumPy array (mapped from the file where its format allows it).

    bfloat16, which NumPy lacks, becomes float32. What is no container, tensor, array, number or text comes as an object
    that tells nothing.

    Raises:
      InputError: PyTorch is not installed; the file is missing, damaged, of another kind, or asks for a function.
    """
    torch = _import_torch(path)
    with reading(path, "get it again", "is damaged or no PyTorch file"):
        _check_archive(path)
        try:
            return _to_numpy(_load(torch, path), torch, path)
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f"holds Python code ({found[1]})" if found else "is damaged or holds more than weights"
            raise InputError(
                f"{path} {what}; it was refused and nothing in it was run. Get it again, from a source you trust"
            ) from None


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
        torch.save(to_tensor(contents), writer := _Writer(file))
        if writer.error:
            raise writer.error


class _Writer:
    """A file whose first error waits until PyTorch is done, which would make one of its own without a cause of it."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Writes, unless that failed before."""
        self._try(lambda: self._file.write(data))
        return len(data)

    def flush(self) -> None:
        """Hands what is written to the file system."""
        self._try(self._file.flush)

    def _try(self, act: Callable[[], object]) -> None:
        if self.error is None:
            try:
                act()
            except OSError as error:
                self.error = error


def _load(torch: Any, path: str) -> Any:
    """Reads with a stand-in for each class that the reader does not know, as it comes to them."""

    def read() -> Any:
        options = {"map_location": "cpu", "weights_only": True}
        if not path.endswith(".safetensors"):
            return torch.load(path, mmap=zipfile.is_zipfile(path), **options)
        # PyTorch goes by this name, we go by what is inside.
        with open(path, "rb") as file:
            return torch.load(file, **options)

    unknown = []
    while True:
        stand_ins = [*_KNOWN, *((_StandIn, name) for name in unknown)]
        try:
            with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings(action="ignore"):
                return read()
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL ([\w.]+) was not an allowed global", str(error))
            name = found and (found[1] if "." in found[1] else f"builtins.{found[1]}")
            if not name or name in unknown or not _is_harmless(name):
                raise
            unknown.append(name)


def _is_harmless(name: str) -> bool:
    """Whether honest checkpoints may hold it: a class by its looks, a date, or something of NumPy's.

    A stand-in for anything else would do nothing either, but a file that asks for a function wants to run it, and the
    user should hear of that.
    """
    module, _, last = name.rpartition(".")
    if module in ("subprocess", "commands", "multiprocessing", "threading", "ctypes", "code"):
        return False
    package = module.partition(".")[0]
    return package in ("numpy", "datetime") or name in _PLAIN_TYPES or last.lstrip("_")[:1].isupper()


class _StandIn:
    """Stands in for any class or constructor: takes whatever it is given and keeps nothing."""

    __qualname__ = "module or other object"  # how messages call it

    def __new__(cls, *_, **__):
        return super().__new__(cls)

    def __init__(self, *_, **__):
        pass

    def __setstate__(self, _):
        pass


class _NumberType:
    """Stands in for `numpy.dtype` while a file is read: knows numbers only."""

    def __init__(self, name: str, *_):
        self.name = name if re.fullmatch(r"[biuf][1248]", name) else None
        self.order = "<"

    def __setstate__(self, state: tuple):
        self.order = state[1] if state[1] in ("<", ">") else "<"

    def read(self, data: bytes) -> np.ndarray | None:
        """The numbers in some bytes, in the byte order of this machine."""
        if self.name is None or not isinstance(data, bytes):
            return None
        return np.frombuffer(data, self.order + self.name).astype(self.name)


class _Array:
    """Stands in for NumPy's arrays, which are made empty and then told what they hold."""

    values = None

    def __init__(self, *_):
        pass

    def __setstate__(self, state: tuple):
        _, shape, kind, by_columns, data = state
        values = kind.read(data)
        self.values = None if values is None else values.reshape(shape, order="F" if by_columns else "C")


def _scalar(kind: _NumberType, data: Any) -> Any:
    """Stands in for NumPy's constructor of scalars."""
    values = kind.read(data)
    return _StandIn() if values is None else values[0].item()


_KNOWN = [
    argparse.Namespace,
    (lambda *_: {}, "collections.defaultdict"),  # its factory is of no use to a reader
    (lambda *_: [], "collections.deque"),
    (lambda *_: b"", "builtins.bytes"),  # called for empty ones alone
    (_NumberType, "numpy.dtype"),
    (_Array, "numpy.ndarray"),
    # Without "_" in the names before NumPy 2.
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_Array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]

# Types that others are made of: a `defaultdict` names its factory, a settings object the types of its fields.
_PLAIN_TYPES = [
    f"builtins.{name}" for name in ("bool", "int", "float", "str", "bytes", "tuple", "list", "dict", "object")
]


def _import_torch(path: str):
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{path}: PyTorch's own files need PyTorch (pip install torch); .safetensors files do without it"
        ) from None
    return torch


def _check_archive(path: str) -> None:
    """Names what else may be in an archive, which the reader's own messages do not."""
    with open(path, "rb") as file:
        if file.read(2) != b"PK":
            return
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
    return value.values if isinstance(value, _Array) else value


def _tensor_to_numpy(tensor: Any, torch: Any, path: str) -> np.ndarray:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise InputError(f"{path} holds a sparse, quantised or empty-shelled tensor; weights are plain tensors")
    # With strides of zero a few bytes can pose as terabytes.
    if tensor.numel() * tensor.element_size() > os.path.getsize(path):
        raise InputError(f"{path} holds a tensor of {list(tensor.shape)}, which is more than is in the file")
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
