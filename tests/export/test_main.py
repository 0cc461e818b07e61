"""The commands: what they write, and their one line where they are used wrongly."""

import importlib.util
import os
import pathlib
import re
import shlex

import jax
import numpy as np
import pytest

from clippy_jax.export.__main__ import NEEDED, flags, main
from clippy_jax.export.onnxruntime_web import PACKAGE
from clippy_jax.weights import load_checkpoint

for package in sorted({name for names in NEEDED.values() for name in names}):
    pytest.importorskip(package, reason=f"{package} is not installed")


def error_of(capsys, *arguments):
    """The one line with which a command ends."""
    with pytest.raises(SystemExit) as exit:
        main(list(arguments))
    error = capsys.readouterr().err
    assert exit.value.code == 1 and error.count("\n") == 1 and error.startswith("error: ")
    return error


def test_the_commands_of_the_documentation_are_understood():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "export.md").read_text()
    commands = re.findall(r"python -m clippy_jax\.export (.+)", page.replace("\\\n", " "))
    assert {flags().parse_args(shlex.split(command)).command for command in commands} == set(NEEDED)
    assert PACKAGE in page


def test_onnx_writes_both_towers_and_the_tokenizer(checkpoint, model, tmp_path, capsys):
    import onnxruntime

    main(["onnx", f"--checkpoint={checkpoint}", f"--output={tmp_path}/model"])
    assert "onnxruntime and JAX differ by" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"image.onnx", "text.onnx", "tokenizer", "README.md"}
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "model" / "image.onnx")
    for ours, theirs in zip(session.run(None, {"images": images}), model.encode_image(images)):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    texts = ["a photo of a zebra", "", "grass"]
    tokens = model.tokenizer.encode(texts, 20).astype(np.int64)
    session = onnxruntime.InferenceSession(tmp_path / "model" / "text.onnx")
    (embeddings,) = session.run(None, {"token_ids": tokens})
    np.testing.assert_allclose(embeddings, model.encode_text(texts), rtol=0, atol=1e-5)


@pytest.mark.parametrize("command, name", [("torch", "model.pt"), ("safetensors", "model.safetensors")])
def test_tensors_load_as_the_same_model(checkpoint, model, spiece_folder, tmp_path, command, name):
    """And a second export, of the file, has the same tensors."""
    main([command, f"--checkpoint={checkpoint}", f"--output={tmp_path}/{name}"])
    main([command, f"--checkpoint={tmp_path}/{name}", f"--output={tmp_path}/again{name}"])
    first, second = (load_checkpoint(str(tmp_path / file), with_moments=False) for file in (name, f"again{name}"))
    for params in (first.params, second.params):
        jax.tree.map(np.testing.assert_array_equal, params, jax.device_get(model.params))


def test_a_folder_is_replaced_by_force_alone(checkpoint, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    paths = [f"--checkpoint={checkpoint}", f"--output={tmp_path}/model"]
    assert "exists already" in error_of(capsys, "onnx", *paths)
    assert (tmp_path / "model" / "old").exists()
    main(["onnx", *paths, f"--tokenizer={checkpoint}", "--force"])
    assert not (tmp_path / "model" / "old").exists()
    # The folder of a model names the tokenizer in it.
    assert os.listdir(tmp_path / "model" / "tokenizer") == os.listdir(checkpoint / "tokenizer") != []


@pytest.mark.parametrize("command", ["stablehlo", "onnx", "web", "torch"])
def test_a_missing_package_is_named_with_its_pip_line(command, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    for name in NEEDED[command]:
        monkeypatch.setattr(importlib.util, "find_spec", lambda spec: None if spec == name else find_spec(spec))  # noqa: B023
        arguments = ["--checkpoint=x", "--output=nowhere", *["--words=x"][: command == "web"]]
        assert f"pip install {name}" in error_of(capsys, command, *arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "the following arguments are required: command"),
        (["onnx"], "--checkpoint, --output"),
        (["onnx", "--checkpoint=nowhere"], "nowhere"),
        (["onnx", "--checkpoint=FILE"], "FILE"),
        (["web"], "--words"),
        (["web", "--words=FILE"], "FILE has 1 words"),
        (["stablehlo", "--image_size=big"], "--image_size=big must be one number of pixels or HEIGHTxWIDTH"),
        (["stablehlo", "--image_size=64x60"], "--image_size is 60, which patches of 16 pixels do not divide"),
        (["stablehlo", "--text_length=0"], "--text_length=0 must be at least 1"),
    ],
)
def test_wrong_commands_end_in_one_line(checkpoint, tmp_path, capsys, arguments, message):
    (tmp_path / "words.txt").write_text("no checkpoint")
    arguments = [argument.replace("FILE", str(tmp_path / "words.txt")) for argument in arguments]
    if len(arguments) > 1 or arguments == ["web"]:
        arguments.append(f"--output={tmp_path}/model")
        if not any("checkpoint" in argument for argument in arguments):
            arguments.append(f"--checkpoint={checkpoint}")
    assert message.replace("FILE", str(tmp_path / "words.txt")) in error_of(capsys, *arguments)
    assert os.listdir(tmp_path) == ["words.txt"]


def test_an_output_that_cannot_be_written_ends_in_one_line(checkpoint, tmp_path, capsys):
    (tmp_path / "file").touch()
    paths = [f"--checkpoint={checkpoint}", f"--output={tmp_path}/file/model"]
    assert f"{tmp_path}/file/model cannot be written" in error_of(capsys, "onnx", *paths)
