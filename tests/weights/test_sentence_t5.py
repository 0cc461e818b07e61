"""Sentence-T5 folders, in from and out to sentence-transformers."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import safetensors.torch
import torch
from sentence_transformers import SentenceTransformer

from clippy_jax.config import TextTowerConfig
from clippy_jax.errors import InputError
from clippy_jax.input_pipeline.tokenizer import load_tokenizer
from clippy_jax.models.clippy import l2_normalise
from clippy_jax.models.packed_texts import packs_of_one
from clippy_jax.models.precision import precision_of
from clippy_jax.models.t5 import SentenceT5
from clippy_jax.weights.sentence_t5 import write_sentence_t5
from clippy_jax.weights.towers import read_weights
from tests.weights import public_files

TEXTS = [
    "a photo of a cat",
    "",
    "  two   spaces\tand a tab \n",
    "emoji 🙂 and Größe",
    "A Photo, of: an APPLE!",
    "zebra " * 40,
    "a photo of a zebra near grass " * 60,  # far beyond 256 tokens
]


def embed(params, config, folder, texts):
    tokens = load_tokenizer(folder).encode([text.strip() for text in texts], 256)
    model = SentenceT5(config, precision_of("float32"))
    return np.asarray(
        jax.jit(lambda params: l2_normalise(model.apply({"params": params}, packs_of_one(tokens))))(params)
    )


def same_tree(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("gated", [False, True])
def test_todays_layout_gives_the_embeddings_of_encode(tmp_path, spiece_folder, gated):
    model = public_files.save_folder_today(tmp_path / "today", spiece_folder, gated)
    weights = read_weights(str(tmp_path / "today"))
    params, wrong = weights.to_params()
    assert not wrong
    theirs = model.encode(TEXTS)
    np.testing.assert_allclose(embed(params, weights.config, tmp_path / "today", TEXTS), theirs, atol=1e-5)


def test_the_layout_of_2_2_gives_the_embeddings_of_encode(text_folder):
    weights = read_weights(text_folder)
    params, _ = weights.to_params()
    theirs = SentenceTransformer(text_folder, device="cpu").encode(TEXTS)
    np.testing.assert_allclose(embed(params, weights.config, text_folder, TEXTS), theirs, atol=1e-5)


def test_sizes_come_from_the_folder(text_folder):
    assert read_weights(text_folder).config == TextTowerConfig(
        vocabulary_size=public_files.VOCABULARY,
        width=32,
        depth=2,
        heads=2,
        head_width=8,
        mlp_width=64,
        gated_mlp=False,
        relative_buckets=32,
        relative_max_distance=128,
        embedding_width=48,
        dropout=0.1,
    )


@pytest.mark.parametrize("drop", ["shared.weight", "encoder.embed_tokens.weight"])
def test_one_of_the_shared_tensors_may_be_missing(tmp_path, spiece_folder, text_folder, drop):
    public_files.save_folder_22(tmp_path / "t5", spiece_folder, drop=drop)
    same_tree(read_weights(str(tmp_path / "t5")).to_params()[0], read_weights(text_folder).to_params()[0])


def test_float16_becomes_float32_without_another_rounding(tmp_path, spiece_folder):
    public_files.save_folder_22(tmp_path / "t5", spiece_folder, half=True)
    params, _ = read_weights(str(tmp_path / "t5")).to_params()
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    expected = public_files.t5().shared.weight.detach().half().float()
    np.testing.assert_array_equal(params["token_embedding"]["embedding"], expected)


def test_weights_in_several_files(tmp_path, text_folder):
    folder = pathlib.Path(shutil.copytree(text_folder, tmp_path / "t5"))
    tensors = {key: value.clone() for key, value in torch.load(folder / "pytorch_model.bin").items()}
    (folder / "pytorch_model.bin").unlink()
    places = {key: f"model-{i % 2}.safetensors" for i, key in enumerate(tensors)}
    for name in set(places.values()):
        safetensors.torch.save_file({key: tensors[key] for key in tensors if places[key] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    same_tree(read_weights(str(folder)).to_params()[0], read_weights(text_folder).to_params()[0])


def test_paths_out_of_the_folder_are_not_followed(tmp_path, text_folder):
    folder = pathlib.Path(shutil.copytree(text_folder, tmp_path / "t5"))
    (folder / "pytorch_model.bin").unlink()
    for place in ("../other/model.safetensors", f"{tmp_path}/other/model.safetensors"):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"shared.weight": place}}))
        with pytest.raises(InputError, match="model.safetensors.index.json names files outside of its folder"):
            read_weights(str(folder))
    modules = json.loads((folder / "modules.json").read_text())
    for place in ("../t5", str(tmp_path), "a/../../t5"):
        modules[0]["path"] = place
        (folder / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(InputError, match="modules.json names folders outside of it"):
            read_weights(str(folder))


def test_of_a_whole_t5_the_encoder_is_taken(tmp_path, text_folder):
    folder = pathlib.Path(shutil.copytree(text_folder, tmp_path / "t5"))
    tensors = torch.load(folder / "pytorch_model.bin")
    extra = {key: torch.zeros(2) for key in ("decoder.block.0.layer.0.SelfAttention.q.weight", "lm_head.weight")}
    torch.save(tensors | extra, folder / "pytorch_model.bin")
    assert read_weights(str(folder)).tensors.keys() == read_weights(text_folder).tensors.keys()


def test_wrong_keys_are_refused_with_the_whole_list(tmp_path, text_folder):
    folder = pathlib.Path(shutil.copytree(text_folder, tmp_path / "t5"))
    tensors = torch.load(folder / "pytorch_model.bin")
    del tensors["encoder.final_layer_norm.weight"]
    tensors["decoder.weight"] = torch.zeros(1)
    tensors["encoder.block.1.layer.0.SelfAttention.o.weight"] = torch.zeros(32, 15)
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(InputError) as error:
        read_weights(str(folder)).to_params()
    assert str(error.value) == (
        f"{folder} does not fit the model: 1 missing: encoder.final_layer_norm.weight; 1 unexpected: decoder.weight; "
        "1 misshapen: encoder.block.1.layer.0.SelfAttention.o.weight is [32, 15] instead of [32, 16]"
    )


@pytest.mark.parametrize(
    "file, change, says",
    [
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "another pooling than the mean"),
        ("1_Pooling/config.json", {"pooling_mode": "cls"}, "another pooling than the mean"),
        ("2_Dense/config.json", {"bias": True}, "asks for a bias"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.Tanh"}, "asks for an activation"),
        ("config.json", {"feed_forward_proj": "gated-silu"}, "feed_forward_proj 'gated-silu'"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "asks for lower-cased texts"),
        ("config.json", {"dropout_rate": "much"}, "config.json has a wrong value"),
        ("config.json", {"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon other than 1e-6"),
    ],
)
def test_a_model_that_we_would_compute_wrongly_is_refused(tmp_path, text_folder, file, change, says):
    folder = pathlib.Path(shutil.copytree(text_folder, tmp_path / "t5"))
    settings = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(settings | change))
    with pytest.raises(InputError, match=says):
        read_weights(str(folder))


@pytest.mark.parametrize("lost", ["2_Dense/config.json", "pytorch_model.bin", "2_Dense/pytorch_model.bin"])
def test_a_missing_file_is_named(tmp_path, text_folder, lost):
    folder = pathlib.Path(shutil.copytree(text_folder, tmp_path / "t5"))
    (folder / lost).unlink()
    with pytest.raises(InputError, match=str((folder / lost).parent)):
        read_weights(str(folder))


@pytest.mark.parametrize("gated", [False, True])
def test_a_written_folder_is_one_of_sentence_transformers(tmp_path, spiece_folder, gated):
    model = public_files.save_folder_today(tmp_path / "source", spiece_folder, gated)
    weights = read_weights(str(tmp_path / "source"))
    params, _ = weights.to_params()
    write_sentence_t5(str(tmp_path / "written"), params, weights.config, str(tmp_path / "source"))
    written = SentenceTransformer(str(tmp_path / "written"), device="cpu")
    source = model.state_dict()
    assert written.state_dict().keys() == source.keys()
    for key, value in written.state_dict().items():
        assert torch.equal(value, source[key]), key
    np.testing.assert_array_equal(written.encode(TEXTS), model.encode(TEXTS))
    again = read_weights(str(tmp_path / "written"))
    same_tree(again.to_params()[0], params)
    assert again.config == weights.config
