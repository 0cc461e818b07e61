"""Files from the internet: honest ones are read, hostile and broken ones are refused in one line."""

import argparse
import collections
import datetime
import enum
import functools
import io
import os
import pathlib
import pickle
import random
import shutil
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from clippy_jax.errors import InputError
from clippy_jax.weights.torch_file import read_torch_file, write_torch_file


def refused(path):
    with pytest.raises(InputError) as error:
        read_torch_file(str(path))
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    return message


def bytes_of(contents, **options):
    buffer = io.BytesIO()
    torch.save(contents, buffer, **options)
    return buffer.getvalue()


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle", "inside a namespace"])
def test_a_malicious_file_is_refused_and_runs_nothing(tmp_path, how):
    trace = tmp_path / "it-ran"
    contents = {"state_dict": {"w": torch.zeros(3)}, "x": Malicious(trace)}
    if how == "inside a namespace":
        contents = {"args": argparse.Namespace(x=Malicious(trace))}
    if how == "plain pickle":
        content = pickle.dumps(contents["x"])
    else:
        content = bytes_of(contents, _use_new_zipfile_serialization=how != "legacy")
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    message = refused(path)
    assert "nothing in it was run" in message
    assert not trace.exists()
    if how != "plain pickle":
        assert "mkdir" in message
        torch.load(path, weights_only=False)
        assert trace.exists()  # the file is as bad as it is meant to be


def test_honest_training_checkpoints_are_read(tmp_path):
    path = tmp_path / "training.pth"
    contents = {
        "args": argparse.Namespace(lr=np.float64(0.5), seeds=[np.int64(3), None], nested=argparse.Namespace(a=True)),
        "best": np.float32(1.5),
        "flag": np.bool_(True),
        "small": np.int8(-4),
        "weights": {"w": torch.arange(6.0).reshape(2, 3)},
    }
    torch.save(contents, path)
    read = read_torch_file(str(path))
    assert read["args"] == argparse.Namespace(lr=0.5, seeds=[3, None], nested=argparse.Namespace(a=True))
    assert (read["best"], read["flag"], read["small"]) == (1.5, True, -4)
    np.testing.assert_array_equal(read["weights"]["w"], np.arange(6.0).reshape(2, 3))


def test_numpy_scalars_of_old_numpy_are_read(tmp_path):
    path = tmp_path / "old.pth"
    content = bytes_of({"x": np.float64(2.5)}, _use_new_zipfile_serialization=False)
    assert b"numpy._core.multiarray" in content
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_torch_file(str(path)) == {"x": 2.5}


class Settings:
    """A class of the one who trained: nobody else has it."""

    def __init__(self, *values):
        self.values = values


class Stage(enum.Enum):
    LAST = 3


def state(generator):
    generator.random(3)
    return generator.bit_generator if isinstance(generator, np.random.Generator) else generator.get_state()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        np.str_("text"),
        np.datetime64("2020-01-01"),
        np.array(["text"]),
        np.array([None]),
        np.random.RandomState(3),
        np.random.RandomState(3).get_state(),
        np.random.default_rng(3),
        state(np.random.default_rng(3)),
        random.getstate(),
        torch.get_rng_state(),
        pathlib.PurePosixPath("/data/runs"),
        pathlib.Path("runs"),
        collections.defaultdict(list, {"a": [torch.zeros(1)]}),
        collections.deque([1.0, 2.0], maxlen=9),
        collections.Counter("aab"),
        collections.OrderedDict(a=1),
        {1, 2},
        1j,
        datetime.datetime(2024, 5, 1),
        Settings(1, [2]),
        Stage.LAST,
        types.SimpleNamespace(lr=0.1),
        torch.device("cpu"),
        torch.bfloat16,
        torch.Size([2, 3]),
        float,
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_what_training_saves_beside_the_weights_does_not_hinder(tmp_path, monkeypatch, legacy, value):
    content = bytes_of({"w": torch.ones(2), "x": value, "y": [value, 3]}, _use_new_zipfile_serialization=not legacy)
    (tmp_path / "x.pt").write_bytes(content)
    monkeypatch.setattr(Settings, "__init__", lambda *_: pytest.fail("a class of the file was reached"))
    read = read_torch_file(str(tmp_path / "x.pt"))
    np.testing.assert_array_equal(read["w"], [1, 1])
    assert read["y"][1] == 3


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i8", "|b1", "<f2"])
def test_numpy_arrays_are_read(tmp_path, dtype):
    values = np.arange(6).reshape(2, 3).astype(dtype)
    torch.save(
        {"rows": values, "columns": np.asfortranarray(values), "none": values[:0], "point": values[1, 2]},
        tmp_path / "x.pt",
    )
    read = read_torch_file(str(tmp_path / "x.pt"))
    for name, expected in (("rows", values), ("columns", values), ("none", values[:0])):
        np.testing.assert_array_equal(read[name], expected)
        assert read[name].dtype == values.dtype.newbyteorder("=") and read[name].shape == expected.shape
    assert read["point"] == values[1, 2]


def test_a_defaultdict_and_a_deque_keep_what_they_hold(tmp_path):
    contents = collections.defaultdict(dict, {"state": collections.defaultdict(list, {0: torch.ones(2)})})
    torch.save({"optimizer": contents, "last": collections.deque([4, 5])}, tmp_path / "x.pt")
    read = read_torch_file(str(tmp_path / "x.pt"))
    np.testing.assert_array_equal(read["optimizer"]["state"][0], [1, 1])
    assert read["last"] == [4, 5]


class Call:
    """Unpickling it calls a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    "call",
    [
        Call(eval, "print()"),
        Call(exec, "print()"),
        Call(__import__, "this"),
        Call(getattr, "x", "upper"),
        Call(subprocess.check_output, "true"),
        Call(subprocess.Popen, ["true"]),
        Call(shutil.rmtree, "/nowhere"),
        Call(torch.hub.load, "a/b", "c"),
        Call(functools.partial, print),
        Call(sys.exit, 3),
    ],
    ids=lambda call: call.function.__name__,
)
def test_a_file_that_calls_functions_is_refused(tmp_path, call):
    torch.save({"w": torch.zeros(2), "x": call}, tmp_path / "x.pt")
    assert "nothing in it was run" in refused(tmp_path / "x.pt")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_files(tmp_path, legacy, share):
    content = bytes_of({"w": torch.zeros(5000)}, _use_new_zipfile_serialization=not legacy)
    path = tmp_path / "weights.pt"
    path.write_bytes(content[: int(share * len(content))])
    assert "truncated" in refused(path) or legacy


@pytest.mark.parametrize(
    "content, says",
    [
        (b"abc", "damaged or no PyTorch file"),
        (bytes(5000), "damaged or no PyTorch file"),
        (b"PK\x03\x04 and no more", "truncated"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, says):
    (tmp_path / "x.pth").write_bytes(content)
    assert says in refused(tmp_path / "x.pth")


def test_archives_that_are_not_pytorchs(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photo.jpg", b"jpeg")
    assert "not one of PyTorch" in refused(tmp_path / "photos.zip")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "program.pt")
    assert "TorchScript" in refused(tmp_path / "program.pt")


def test_a_compressed_archive_is_not_unfolded(tmp_path):
    torch.save({"w": torch.zeros(10**5)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    assert "compressed" in refused(tmp_path / "bomb.pt")


def test_a_tensor_larger_than_its_file_is_refused(tmp_path):
    torch.save({"w": torch.zeros(1).expand(10**12)}, tmp_path / "bomb.pt")
    assert "more than is in the file" in refused(tmp_path / "bomb.pt")


def test_unusual_tensors(tmp_path):
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    assert "sparse" in refused(tmp_path / "sparse.pt")
    torch.save({"w": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}, tmp_path / "bfloat16.pt")
    np.testing.assert_array_equal(read_torch_file(str(tmp_path / "bfloat16.pt"))["w"], np.float32([1.5, -2.0]))


def test_missing_file_and_folder(tmp_path):
    assert "No such file" in refused(tmp_path / "nothing.pt")
    assert "Is a directory" in refused(tmp_path)


def test_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install torch" in refused(tmp_path / "x.pt")


def test_written_files_are_pytorchs(tmp_path):
    shared = np.arange(12.0, dtype=np.float32).reshape(3, 4).T
    contents = {"a": shared, "b": shared, "nested": [{"scalar": np.full((), 2.0)}, (1, "x", None)]}
    path = tmp_path / "written.pt"
    write_torch_file(str(path), contents)
    read = torch.load(path, weights_only=True)
    assert torch.equal(read["a"], torch.arange(12.0).reshape(3, 4).T) and read["a"].is_contiguous()
    assert read["a"].data_ptr() == read["b"].data_ptr()
    assert read["nested"][0]["scalar"].shape == () and read["nested"][1] == (1, "x", None)


def test_a_full_disk_is_what_the_system_says(tmp_path):
    """PyTorch would make a RuntimeError of it."""
    with pytest.raises(OSError, match="No space left on device"):
        write_torch_file("/dev/full", {"state_dict": {"weight": np.zeros((300, 300), np.float32)}})
