import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from clippy_jax.errors import InputError
from clippy_jax.weights.converted_folder import read_converted_folder, write_converted_folder
from clippy_jax.weights.kinds import Kind, kind_of
from clippy_jax.weights.load import from_clippy, from_towers
from clippy_jax.weights.safetensors_file import write_safetensors


@pytest.fixture(scope="module")
def checkpoint(clippy_file, text_folder):
    return dataclasses.replace(from_clippy(clippy_file, "--clippy")[0], tokenizer=text_folder)


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "clippy"
    write_converted_folder(str(folder), checkpoint)
    return folder


def test_everything_comes_back_exactly(folder, checkpoint):
    assert kind_of(str(folder)) == Kind.CONVERTED
    read = read_converted_folder(str(folder))
    for ours, theirs in (
        (read.params, checkpoint.params),
        (read.moments.mean, checkpoint.moments.mean),
        (read.moments.square, checkpoint.moments.square),
    ):
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert (read.moments.step, read.moments.groups) == (checkpoint.moments.step, checkpoint.moments.groups)
    assert (read.config, read.epoch, read.name) == (checkpoint.config, 5, "clippy")
    assert read.tokenizer == str(folder / "tokenizer")
    for name in os.listdir(read.tokenizer):
        assert (folder / "tokenizer" / name).read_bytes() == (pathlib.Path(checkpoint.tokenizer) / name).read_bytes()
    assert sorted(os.listdir(read.tokenizer)) == ["sentence_bert_config.json", "spiece.model"]


def test_moments_are_left_on_the_disk_when_not_wanted(folder):
    assert read_converted_folder(str(folder), with_moments=False).moments is None


def test_two_towers_in_a_folder(tmp_path, dino_file, text_folder):
    joined, notes = from_towers(dino_file, text_folder)
    assert notes == ["not in the weights, left at its initialisation: logit_scale"]
    write_converted_folder(str(tmp_path / "init"), joined)
    read = read_converted_folder(str(tmp_path / "init"))
    jax.tree.map(np.testing.assert_array_equal, read.params, joined.params)
    assert read.moments is None and read.config == joined.config


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("config.json", "{", "config.json is damaged"),
        ("config.json", "{}", "config.json is damaged"),
        ("config.json", None, "config.json cannot be read"),
        ("params.safetensors", "", "params.safetensors is damaged"),
        ("optimizer.safetensors", None, "optimizer.safetensors cannot be read"),
    ],
)
def test_damaged_folders_are_refused(tmp_path, folder, name, content, says):
    copy = pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_text(content)
    with pytest.raises(InputError, match=says):
        read_converted_folder(str(copy))


def test_parameters_must_be_those_of_the_configuration(tmp_path, folder):
    copy = pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["model"]["text"]["mlp_width"] = 63
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="in text/blocks/mlp_in/kernel, text/blocks/mlp_out/kernel; convert"):
        read_converted_folder(str(copy))


@pytest.mark.parametrize(
    "name, change, says",
    [
        ("params", lambda arrays: {**arrays, "image/norm": np.zeros(3)}, "own config.json in image/norm; convert"),
        ("optimizer", lambda arrays: {key: arrays[key] for key in arrays if "mean/text" not in key}, "in mean/text/"),
        ("optimizer", lambda arrays: {key: np.atleast_1d(arrays[key])[:1] for key in arrays}, "in mean/image/"),
        ("params", lambda arrays: {key: arrays[key].astype(int) for key in arrays}, "other than floating-point numb"),
    ],
)
def test_changed_arrays_are_refused(tmp_path, folder, name, change, says):
    copy = pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))
    write_safetensors(
        str(copy / f"{name}.safetensors"), change(safetensors.numpy.load_file(copy / f"{name}.safetensors")), {}
    )
    with pytest.raises(InputError, match=says):
        read_converted_folder(str(copy))


def test_arrays_of_another_precision_come_as_float32(tmp_path, folder, checkpoint):
    copy = pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))
    halves = {
        key: value.astype(np.float16) for key, value in safetensors.numpy.load_file(copy / "params.safetensors").items()
    }
    write_safetensors(str(copy / "params.safetensors"), halves, {})
    read = read_converted_folder(str(copy), with_moments=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(read.params)} == {np.dtype(np.float32)}
    halves = jax.tree.map(lambda leaf: leaf.astype(np.float16), checkpoint.params)
    jax.tree.map(np.testing.assert_array_equal, read.params, halves)


def test_a_folder_loads_where_only_jax_and_flax_are(folder):
    program = (
        "import sys; sys.modules |= dict.fromkeys(['torch', 'tensorflow', 'transformers', 'orbax', 'etils'])\n"
        "from clippy_jax.weights.load import load_checkpoint\n"
        f"print(load_checkpoint({str(folder)!r}).config.pooling)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=pathlib.Path.cwd())
    assert result.stdout == "max_with_cls\n", result.stderr
