"""The program, from its command line to the files."""

# ruff: noqa: F401, F811 (fixtures are imported and then named as arguments)

import os

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from clippy_jax.convert import main
from clippy_jax.weights import safetensors_file, torch_file
from tests.inputs import spiece_folder
from tests.weights import public_files
from tests.weights.conftest import clippy_file, dino_file, text_folder, weights_folder


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capsys.readouterr()
    assert end.value.code == 1
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    return printed.err


def assert_same(ours, theirs):
    """Two nested containers with tensors, equal to the last bit, in types and in order."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, torch.Tensor):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape and torch.equal(ours, theirs)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs):
            assert_same(one, other)
    else:
        assert ours == theirs


def test_clippy_there_and_back(tmp_path, clippy_file, capsys):
    folder, back = str(tmp_path / "clippy"), str(tmp_path / "back.pt")
    main(["to-flax", f"--clippy={clippy_file}", f"--output={folder}"])
    main(["to-torch", f"--checkpoint={folder}", f"--output={back}"])
    contents = torch.load(back, weights_only=True)
    for ours in ("model_config", "image_size"):
        contents.pop(ours)
    theirs = torch.load(clippy_file, weights_only=True)
    assert contents.keys() == theirs.keys()
    for key in theirs:
        assert_same(contents[key], theirs[key])
    assert capsys.readouterr().out == f"wrote {folder}\nwrote {back}\n"


def test_towers_there_and_back(tmp_path, dino_file, text_folder, capsys):
    folder = str(tmp_path / "init")
    main(["to-flax", f"--image={dino_file}", f"--text={text_folder}", f"--output={folder}"])
    assert "not in the weights, left at its initialisation: logit_scale\n" in capsys.readouterr().out
    main(["to-torch", f"--checkpoint={folder}", "--format=dino", f"--output={tmp_path}/dino.pth"])
    assert_same(torch.load(tmp_path / "dino.pth", weights_only=True), torch.load(dino_file, weights_only=True))
    main(["to-torch", f"--checkpoint={folder}", "--format=sentence-transformers", f"--output={tmp_path}/t5"])
    ours, theirs = (SentenceTransformer(str(path), device="cpu") for path in (tmp_path / "t5", text_folder))
    assert_same(dict(ours.state_dict()), dict(theirs.state_dict()))
    assert ours.max_seq_length == theirs.max_seq_length == 256


def test_safetensors_there_and_back(tmp_path, clippy_file):
    path = str(tmp_path / "x.safetensors")
    main(["to-torch", f"--checkpoint={clippy_file}", "--format=safetensors", f"--output={path}"])
    main(["to-torch", f"--checkpoint={path}", "--epoch=9", f"--output={tmp_path}/back.pt"])
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert back["epoch"] == 9 and "optimizer" not in back
    assert_same(back["state_dict"], torch.load(clippy_file, weights_only=True)["state_dict"])


def test_options_of_to_flax(tmp_path, clippy_file, text_folder):
    whole = [f"--clippy={clippy_file}", f"--tokenizer={text_folder}"]
    main(["to-flax", *whole, "--skip_optimizer", f"--output={tmp_path}/x"])
    assert sorted(os.listdir(tmp_path / "x")) == ["config.json", "params.safetensors", "tokenizer"]
    # The folder of a model serves as well, whose tokenizer lies in it.
    main(["to-flax", f"--clippy={clippy_file}", f"--tokenizer={tmp_path}/x", f"--output={tmp_path}/again"])
    assert os.listdir(tmp_path / "again" / "tokenizer") == os.listdir(tmp_path / "x" / "tokenizer") != []
    torch.save(public_files.dino_training(), tmp_path / "training.pth")
    towers = [f"--image={tmp_path}/training.pth", f"--text={text_folder}"]
    for network, seed in ("teacher", 0), ("student", 1):
        main(["to-flax", *towers, f"--network={network}", f"--output={tmp_path}/{network}"])
        params, _ = safetensors_file.read_safetensors(str(tmp_path / network / "params.safetensors"))
        np.testing.assert_array_equal(params["image/cls_token"], public_files.dino(seed=seed)["cls_token"])


def test_partial_weights(tmp_path, capsys):
    contents = public_files.clippy()
    del contents["state_dict"]["module.visual.trunk.norm.bias"]
    contents["state_dict"]["module.visual.head.bias"] = torch.zeros(3)
    torch.save(contents, tmp_path / "x.pt")
    command = ["to-flax", f"--clippy={tmp_path}/x.pt", f"--output={tmp_path}/folder"]
    message = fails(capsys, *command)
    assert "1 missing: visual.trunk.norm.bias; 1 unexpected: visual.head.bias" in message
    main([*command, "--allow_partial"])
    assert capsys.readouterr().out == (
        "not in the weights, left at its initialisation: visual.trunk.norm.bias\n"
        f"in the weights but not in the model, ignored: visual.head.bias\nwrote {tmp_path}/folder\n"
    )


def test_inspect(clippy_file, capsys):
    main(["inspect", clippy_file])
    assert "CLIPpy checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "required: command"),
        (["to-flax", "--output=x"], "to-flax takes --image=FILE with --text=DIR, or --clippy=FILE alone"),
        (["to-flax", "--image=a", "--output=x"], "to-flax takes"),
        (["to-flax", "--image=a", "--text=b", "--clippy=c", "--output=x"], "to-flax takes"),
        (["to-flax", "--image=a", "--clippy=c", "--output=x"], "to-flax takes"),
        (["to-flax", "--image=a", "--text=b", "--tokenizer=c", "--output=x"], "--tokenizer goes with --clippy"),
        (["to-flax", "--clippy=none.pt", "--output=x"], "none.pt does not exist"),
        (["to-flax", "--clippy=none.pt", "--output=x", "--tokenizer=none"], "the folder none does not exist"),
        (["to-flax", "--image=a", "--text=b", "--skip_optimizer", "--output=x"], "--skip_optimizer goes with --clippy"),
        (["to-flax", "--clippy=a", "--network=student", "--output=x"], "--network goes with --image"),
        (["to-torch", "--checkpoint=none", "--output=x"], "none does not exist"),
        (["to-torch", "--checkpoint=a", "--output=x", "--tokenizer=b"], "goes with --format=sentence-transformers"),
        (
            ["to-torch", "--checkpoint=a", "--output=x", "--format=dino", "--epoch=0"],
            "--epoch goes with --format=clippy",
        ),
        (["inspect", "none"], "none does not exist"),
    ],
)
def test_wrong_commands(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in fails(capsys, *arguments)
    assert os.listdir(tmp_path) == []


def test_a_text_tower_needs_its_tokenizer(tmp_path, clippy_file, capsys):
    command = ["to-torch", f"--checkpoint={clippy_file}", "--format=sentence-transformers", f"--output={tmp_path}/x"]
    assert "carries no tokenizer; give one with --tokenizer" in fails(capsys, *command)
    assert os.listdir(tmp_path) == []


def test_nothing_is_replaced_without_force(tmp_path, clippy_file, capsys):
    output = tmp_path / "x.pt"
    output.write_text("precious")
    command = ["to-torch", f"--checkpoint={clippy_file}", f"--output={output}"]
    assert "exists already" in fails(capsys, *command)
    assert output.read_text() == "precious"
    main([*command, "--force"])
    assert torch.load(output, weights_only=True)["epoch"] == 5


def test_a_malicious_file_ends_in_one_line(tmp_path, capsys):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it-ran"),)

    torch.save({"state_dict": Malicious()}, tmp_path / "x.pt")
    for command in (
        ["inspect", f"{tmp_path}/x.pt"],
        ["to-flax", f"--clippy={tmp_path}/x.pt", f"--output={tmp_path}/out"],
        ["to-torch", f"--checkpoint={tmp_path}/x.pt", f"--output={tmp_path}/out"],
    ):
        assert "mkdir" in fails(capsys, *command)
    assert os.listdir(tmp_path) == ["x.pt"]


@pytest.mark.parametrize("kind", ["clippy", "dino", "safetensors", "sentence-transformers", "to-flax"])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, capsys, clippy_file, text_folder, kind):
    """The disk is full half-way: the writers' last file goes to the device on which every write fails."""

    def full(write):
        def write_some_then_fail(path, contents, *rest):
            write(path, contents, *rest)
            os.truncate(path, os.path.getsize(path) // 2)
            with open("/dev/full", "w") as device:
                device.write("x")

        return write_some_then_fail

    for module, name in (
        ("clippy_file", "write_torch_file"),
        ("clippy_file", "write_safetensors"),
        ("sentence_t5", "write_safetensors"),
        ("converted_folder", "write_safetensors"),
    ):
        write = getattr(torch_file if name == "write_torch_file" else safetensors_file, name)
        monkeypatch.setattr(f"clippy_jax.weights.{module}.{name}", full(write))
    output = tmp_path / "x"
    if kind == "to-flax":
        command = ["to-flax", f"--clippy={clippy_file}", f"--output={output}"]
    else:
        command = ["to-torch", f"--checkpoint={clippy_file}", f"--format={kind}", f"--output={output}"]
    assert "No space left on device; nothing was left there" in fails(
        capsys, *command, *([f"--tokenizer={text_folder}"] if kind in ("to-flax", "sentence-transformers") else [])
    )
    assert os.listdir(tmp_path) == []
