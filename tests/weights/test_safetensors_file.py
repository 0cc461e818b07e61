import os

import numpy as np
import pytest
import safetensors.torch
import torch

from clippy_jax.errors import InputError
from clippy_jax.weights.safetensors_file import read_safetensors, write_safetensors


def test_arrays_come_back_as_they_were(tmp_path):
    path = str(tmp_path / "x.safetensors")
    tensors = {
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "strided": np.arange(10, dtype=np.float16)[::2],
        "scalar": np.array(2.5, np.float32),
    }
    write_safetensors(path, tensors, {"name": "x"})
    read, metadata = read_safetensors(path)
    assert metadata == {"name": "x"}
    for key, value in tensors.items():
        assert read[key].dtype == value.dtype and read[key].shape == value.shape
        np.testing.assert_array_equal(read[key], value)
    assert torch.equal(safetensors.torch.load_file(path)["turned"], torch.from_numpy(tensors["turned"]))


def test_others_may_read_the_file_as_any_other(tmp_path):
    (tmp_path / "ordinary").write_bytes(b"")
    write_safetensors(str(tmp_path / "x.safetensors"), {"a": np.zeros(2)}, {})
    assert os.stat(tmp_path / "x.safetensors").st_mode == os.stat(tmp_path / "ordinary").st_mode


@pytest.mark.parametrize("content", [b"", b"<html></html>", bytes(100), b"\xff" * 100])
def test_damaged_files_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="x.safetensors is damaged or no safetensors file") as error:
        read_safetensors(str(path))
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(str(path), {"a": np.zeros(1000)}, {})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged"):
        read_safetensors(str(path))


def test_bfloat16_and_missing_files(tmp_path):
    safetensors.torch.save_file({"a": torch.tensor([1.5, -2], dtype=torch.bfloat16)}, tmp_path / "half.safetensors")
    read = read_safetensors(str(tmp_path / "half.safetensors"))[0]["a"]
    assert read.dtype == np.float32 and read.tolist() == [1.5, -2]
    with pytest.raises(InputError, match="cannot be read"):
        read_safetensors(str(tmp_path / "nothing.safetensors"))
