"""What a path is, whatever it is called."""

import pathlib
import shutil

import pytest
import safetensors.torch
import torch

from clippy_jax.errors import InputError
from clippy_jax.weights.converted_folder import write_converted_folder
from clippy_jax.weights.kinds import Kind, kind_of, kind_of_keys
from clippy_jax.weights.load import load_checkpoint
from clippy_jax.weights.towers import read_weights
from tests.weights import public_files


def test_folders(tmp_path, text_folder, clippy_file):
    assert kind_of(text_folder) == Kind.SENTENCE_T5
    write_converted_folder(str(tmp_path / "modules.json.pt"), load_checkpoint(clippy_file))
    assert kind_of(str(tmp_path / "modules.json.pt")) == Kind.CONVERTED
    (tmp_path / "run.safetensors" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run.safetensors" / "config.json").write_text("{}")
    assert kind_of(str(tmp_path / "run.safetensors")) == Kind.RUN


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors", "blob", "x.bin"])
@pytest.mark.parametrize("form", ["torch", "legacy torch", "safetensors"])
def test_the_name_of_a_file_does_not_matter(tmp_path, name, form):
    path, tensors = tmp_path / name, public_files.dino()
    if form == "safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "torch")
    assert read_weights(str(path)).kind == Kind.BACKBONE


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "is empty"),
        (b"\n <!DOCTYPE html><html><body>404</body></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "git lfs pull"),
        (b"abc", "damaged or no weights"),
        (bytes(5000), "damaged or no weights"),
        (b"PK\x03\x04 and no more", "truncated"),
        (b"\x80\x02 and no more", "damaged"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{ and no more", "damaged"),
    ],
)
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_files_that_are_something_else(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        read_weights(str(tmp_path / name))
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("inside", ["", "photo.jpg", "config.json", "tokenizer/spiece.model"])
def test_a_folder_of_something_else_is_told_what_is_wanted(tmp_path, inside):
    if inside:
        (tmp_path / inside).parent.mkdir(exist_ok=True)
        (tmp_path / inside).write_text("{}")
    for read in (load_checkpoint, read_weights):
        with pytest.raises(InputError) as error:
            read(str(tmp_path))
        for word in (str(tmp_path), "config.json and checkpoints", "params.safetensors", "modules.json"):
            assert word in str(error.value)


@pytest.mark.parametrize("read", [load_checkpoint, read_weights])
def test_a_path_of_nothing(tmp_path, read):
    with pytest.raises(InputError, match="nothing does not exist"):
        read(str(tmp_path / "nothing"))


def test_the_kind_that_is_there_is_named(tmp_path, dino_file, text_folder, clippy_file):
    with pytest.raises(InputError, match="is a Sentence-T5 folder; a CLIPpy checkpoint is wanted"):
        load_checkpoint(text_folder)
    with pytest.raises(InputError, match="is a ViT backbone; a CLIPpy checkpoint is wanted"):
        load_checkpoint(dino_file)
    write_converted_folder(str(tmp_path / "x"), load_checkpoint(clippy_file))
    with pytest.raises(InputError, match="is a converted folder"):
        read_weights(str(tmp_path / "x"))
    file = shutil.copy(pathlib.Path(text_folder, "pytorch_model.bin"), tmp_path)
    with pytest.raises(InputError, match="give the whole Sentence-T5 folder"):
        read_weights(str(file))


@pytest.mark.parametrize(
    "keys, network, kind, prefix",
    [
        (["cls_token", "blocks.0.norm1.weight"], "teacher", Kind.BACKBONE, ""),
        (["backbone.patch_embed.proj.bias", "head.mlp.0.weight"], "teacher", Kind.BACKBONE, "backbone."),
        (
            ["student.a.blocks.0.attn.qkv.bias", "teacher.a.blocks.0.attn.qkv.bias"],
            "teacher",
            Kind.BACKBONE,
            "teacher.a.",
        ),
        (
            ["student.a.blocks.0.attn.qkv.bias", "teacher.a.blocks.0.attn.qkv.bias"],
            "student",
            Kind.BACKBONE,
            "student.a.",
        ),
        (["visual.trunk.blocks.0.attn.qkv.bias", "logit_scale"], "teacher", Kind.CLIPPY, ""),
        (["model.text.0.auto_model.shared.weight"], "teacher", Kind.CLIPPY, "model."),
        (["vit.embeddings.patch_embeddings.projection.bias"], "teacher", Kind.BACKBONE, "vit."),
        (["text_model.head.bias", "vision_model.embeddings.patch_embedding.bias"], "", Kind.BACKBONE, "vision_model."),
    ],
)
def test_state_dicts_by_their_keys(keys, network, kind, prefix):
    assert kind_of_keys(keys, network, "x") == (kind, prefix)
