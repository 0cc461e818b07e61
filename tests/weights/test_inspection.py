import torch

from clippy_jax.weights.converted_folder import write_converted_folder
from clippy_jax.weights.inspection import inspect
from clippy_jax.weights.load import from_clippy
from tests.weights import public_files


def cells(text):
    """Name to value, whatever the width of the table."""
    return {name.strip(): value for name, _, value in (line.strip().partition("  ") for line in text.splitlines()[1:])}


def test_a_clippy_checkpoint(clippy_file):
    table = {name: value.strip() for name, value in cells(inspect(clippy_file)).items()}
    assert table["is a"] == "CLIPpy checkpoint"
    assert table["name"] == "clippy, epoch 5"
    for size in ("patch_size 16", "image_size 224", "width 48", "depth 3", "heads 3", "mlp_width 96"):
        assert size in table["image tower"]
    for size in ("vocabulary_size 320", "width 32", "depth 2", "heads 2", "head_width 8", "embedding_width 48"):
        assert size in table["text tower"]
    assert table["keys"] == "64 (64 float32)"
    parameters = {key: v for key, v in public_files.clippy()["state_dict"].items() if "embed_tokens" not in key}
    assert table["parameters"] == f"{sum(value.numel() for value in parameters.values()):,}"
    assert table["visual.trunk"] == f"{sum(value.numel() for value in public_files.dino().values()):,}"
    assert table["optimizer"] == "after 3 steps, groups of 34 and 29"
    assert [table[name] for name in ("missing", "unexpected", "misshapen", "not finite")] == ["none"] * 4


def test_what_is_wrong_is_shown(tmp_path):
    tensors = public_files.dino()
    tensors["pos_embed"][0, 0, 0] = float("nan")
    tensors["norm.bias"] = torch.zeros(5)
    tensors["norm.extra"] = tensors.pop("norm.weight")
    tensors["cls_token"] = tensors["cls_token"].half()
    torch.save(tensors, tmp_path / "x.pth")
    table = {name: value.strip() for name, value in cells(inspect(str(tmp_path / "x.pth"))).items()}
    assert table["is a"] == "ViT backbone"
    assert table["keys"] == "42 (1 float16, 41 float32)"
    assert table["missing"] == "norm.weight"
    assert table["unexpected"] == "norm.extra"
    assert table["misshapen"] == "norm.bias is [5] instead of [48]"
    assert table["not finite"] == "pos_embed"


def test_an_optimizer_of_another_kind_is_shown_as_that(tmp_path):
    contents = public_files.clippy()
    contents["optimizer"] = {"state": {0: {"step": torch.tensor(float("inf"))}}, "param_groups": [{"params": [0]}]}
    torch.save(contents, tmp_path / "x.pt")
    assert cells(inspect(str(tmp_path / "x.pt")))["optimizer"].strip() == "of a kind that is not known here"


def test_folders(tmp_path, text_folder, clippy_file):
    assert cells(inspect(text_folder))["is a"].strip() == "Sentence-T5 folder"
    write_converted_folder(str(tmp_path / "x"), from_clippy(clippy_file, "--clippy")[0])
    table = {name: value.strip() for name, value in cells(inspect(str(tmp_path / "x"))).items()}
    assert table["is a"] == "converted folder"
    assert (table["pooling"], table["trained at"]) == ("max_with_cls", "224 pixels")
    assert table["optimizer"] == "AdamW after 3 steps"
