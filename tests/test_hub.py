"""Weights and tokenizers by their names on the Hugging Face hub, from a local stand-in of it."""

# ruff: noqa: F401, F811 (fixtures are imported and then named as arguments)

import dataclasses
import json
import pathlib
import runpy
import shutil

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import torch

import clippy_jax
from clippy_jax.config import parse
from clippy_jax.convert import main as convert
from clippy_jax.errors import InputError
from clippy_jax.input_pipeline.tokenizer import load_tokenizer
from clippy_jax.run.workdir import record_commits
from clippy_jax.weights.kinds import find_weights, needed_files
from clippy_jax.weights.load import load_checkpoint
from clippy_jax.weights.model_card import model_card
from clippy_jax.weights.towers import read_weights
from tests import hub_stand_in
from tests.weights import public_files
from tests.weights.conftest import clippy_file, dino_file, text_folder, weights_folder


@pytest.fixture
def online(monkeypatch, tmp_path):
    """The hub's own settings, which it reads when it is imported, for a hub of ours and an empty cache."""
    with hub_stand_in.serve() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.address)
        template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.chdir(tmp_path)
        yield hub


@pytest.fixture
def hub(online, text_folder, dino_file, clippy_file):
    """Repositories as people publish them, with files that nobody here needs."""
    online.add("sentence-transformers/sentence-t5-tiny", text_folder)
    online.repositories["sentence-transformers/sentence-t5-tiny"] |= {
        "README.md": b"no",
        "rust_model.ot": b"no",
        "onnx/model.onnx": b"no",
        "2_Dense/rust_model.ot": b"no",
    }
    tensors = safetensors.torch.save(public_files.dino())
    online.repositories["timm/vit_tiny_patch16_224.dino"] = {
        "config.json": b"{}",
        "model.safetensors": tensors,
        "pytorch_model.bin": b"no",
    }
    online.repositories["someone/clippy"] = {"clippy_5k.pt": pathlib.Path(clippy_file).read_bytes(), "notes.txt": b"no"}
    online.repositories["someone/two"] = {"a.pt": b"no", "b.pt": b"no"}
    online.repositories["someone/words"] = {"README.md": b"no"}
    online.repositories["someone/gated"] = {"model.safetensors": tensors}
    online.gated.add("someone/gated")
    return online


def test_a_sentence_t5_by_its_name(hub, text_folder):
    read = read_weights("sentence-transformers/sentence-t5-tiny")
    for key, value in read_weights(text_folder).tensors.items():
        np.testing.assert_array_equal(read.tensors[key], value, err_msg=key)
    assert hub.downloaded("sentence-transformers/sentence-t5-tiny") == {
        *("modules.json", "config.json", "sentence_bert_config.json", "spiece.model", "pytorch_model.bin"),
        *("1_Pooling/config.json", "2_Dense/config.json", "2_Dense/pytorch_model.bin"),
    }
    ids = load_tokenizer("sentence-transformers/sentence-t5-tiny").encode(["a photo"], 8)
    np.testing.assert_array_equal(ids, load_tokenizer(text_folder).encode(["a photo"], 8))


@pytest.mark.parametrize(
    "name",
    [
        "timm/vit_tiny_patch16_224.dino",
        "hf-hub:timm/vit_tiny_patch16_224.dino",
        "hf_hub:timm/vit_tiny_patch16_224.dino@v1",
        "hf-hub:timm/vit_tiny_patch16_224.dino@refs/pr/1",
        "hf-hub:timm/vit_tiny_patch16_224.dino@refs/pr/1/model.safetensors",
        "https://huggingface.co/timm/vit_tiny_patch16_224.dino",
        "hf-hub:timm/vit_tiny_patch16_224.dino/model.safetensors",
    ],
)
def test_timms_dino_by_every_spelling_of_its_name(hub, name):
    read = read_weights(name)
    assert read.kind == "ViT backbone"
    np.testing.assert_array_equal(read.tensors["cls_token"], public_files.dino()["cls_token"])
    assert "pytorch_model.bin" not in hub.downloaded("timm/vit_tiny_patch16_224.dino")


def test_a_towers_command_takes_names(hub, tmp_path):
    names = ["--image=timm/vit_tiny_patch16_224.dino", "--text=sentence-transformers/sentence-t5-tiny"]
    convert(["to-flax", *names, f"--output={tmp_path}/init"])
    assert clippy_jax.load(f"{tmp_path}/init").encode_text(["a photo"]).shape == (1, 48)


def test_a_repository_of_one_file(hub, clippy_file):
    ours = load_checkpoint("hf-hub:someone/clippy", with_moments=False).params
    np.testing.assert_array_equal(ours["logit_scale"], load_checkpoint(clippy_file).params["logit_scale"])
    assert hub.downloaded("someone/clippy") == {"clippy_5k.pt"}


def test_what_was_fetched_once_serves_offline(hub, monkeypatch):
    read_weights("timm/vit_tiny_patch16_224.dino")
    asked = len(hub.asked)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert read_weights("timm/vit_tiny_patch16_224.dino").kind == "ViT backbone"
    assert len(hub.asked) == asked
    with pytest.raises(InputError, match="not in the hub's cache and cannot be fetched: HF_HUB_OFFLINE is set"):
        read_weights("hf-hub:someone/clippy")
    with pytest.raises(InputError, match="not in the hub's cache and cannot be fetched: HF_HUB_OFFLINE is set"):
        read_weights("hf-hub:someone/clippy/clippy_5k.pt")


def test_a_run_tells_the_commits_that_it_was_started_with(hub, tmp_path, monkeypatch):
    config = parse(runpy.run_path(str(pathlib.Path(__file__).parents[1] / "configs" / "shapes.py"))["get_config"]())
    tokenizer, text = "sentence-transformers/sentence-t5-tiny", "hf-hub:someone/clippy@v1/clippy_5k.pt"
    init = dataclasses.replace(config.init, image="dino.pth", text=text)
    config = dataclasses.replace(config, init=init, input=dataclasses.replace(config.input, tokenizer=tokenizer))
    load_tokenizer(tokenizer)
    find_weights(text)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    record_commits(tmp_path / "run", config)
    assert json.loads((tmp_path / "run" / "hub.json").read_text()) == {
        "config.input.tokenizer": f"hf-hub:{tokenizer}@{hub_stand_in.COMMIT}",
        "config.init.text": f"hf-hub:someone/clippy@{hub_stand_in.COMMIT}/clippy_5k.pt",
    }
    record_commits(
        tmp_path / "other",
        dataclasses.replace(
            config, init=dataclasses.replace(init, text=""), input=dataclasses.replace(config.input, tokenizer="/a/b")
        ),
    )
    assert not (tmp_path / "other").exists()


def test_a_hub_that_does_not_answer(hub, monkeypatch):
    read_weights("timm/vit_tiny_patch16_224.dino")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert read_weights("timm/vit_tiny_patch16_224.dino").kind == "ViT backbone"
    with pytest.raises(InputError, match="someone/clippy") as error:
        read_weights("hf-hub:someone/clippy")
    assert "\n" not in str(error.value)


def test_a_path_wins_and_no_network_is_touched(hub, text_folder, tmp_path):
    shutil.copytree(text_folder, tmp_path / "sentence-transformers" / "sentence-t5-tiny")
    assert find_weights("sentence-transformers/sentence-t5-tiny") == "sentence-transformers/sentence-t5-tiny"
    read_weights("sentence-transformers/sentence-t5-tiny")
    load_tokenizer("sentence-transformers/sentence-t5-tiny")
    for name in ("sentence-transformers/b16", "nowhere/clippy.pt", "./a/b", "a", "/a/b", "~/a", "a/b/c"):
        with pytest.raises(InputError, match="does not exist|cannot be read"):
            read_weights(name)
    assert hub.asked == []


@pytest.mark.parametrize(
    "name, says",
    [
        ("nobody/nothing", "nobody/nothing does not exist, neither as a path nor as a repository"),
        ("hf-hub:nobody/nothing", "does not exist, neither as a path nor as a repository"),
        ("hf-hub:someone/clippy@v9", "someone/clippy has no revision 'v9'"),
        ("hf-hub:someone/clippy/other.pt", "someone/clippy has no file 'other.pt'"),
        ("hf-hub:someone/gated", "is gated: accept its terms at https://huggingface.co/someone/gated"),
        ("hf-hub:someone/words", "someone/words does not hold what is wanted here; it holds README.md"),
        (
            "hf-hub:someone/two",
            "there are 2 files of weights, a.pt, b.pt.*name one of them, as hf-hub:someone/two/FILE",
        ),
        ("hf-hub:clippy", "is no name on the hub; write hf-hub:ORG/NAME"),
    ],
)
def test_wrong_names_end_in_one_line(hub, name, says):
    with pytest.raises(InputError, match=says) as error:
        clippy_jax.load(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "files, needed",
    [
        ("model.safetensors pytorch_model.bin tf_model.h5 config.json", "model.safetensors config.json"),
        (
            "model.safetensors.index.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors x.bin",
            "model.safetensors.index.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors",
        ),
        ("pytorch_model.bin onnx/model.onnx openvino/openvino_model.bin", "pytorch_model.bin"),
        (
            "params.safetensors optimizer.safetensors tokenizer/spiece.model",
            "params.safetensors tokenizer/spiece.model",
        ),
        ("2_Dense/pytorch_model.bin 2_Dense/model.safetensors modules.json", "2_Dense/model.safetensors modules.json"),
        ("dino.pth README.md", "dino.pth"),
        ("config.json tokenizer.json", ""),
    ],
)
def test_only_the_needed_files(files, needed):
    assert set(needed_files(files.split())) == set(needed.split())


def test_a_model_goes_to_the_hub_and_comes_back(hub, tmp_path, clippy_file, text_folder):
    from clippy_jax.weights.parameter_digest import parameter_digest

    figure = {
        "miou": 0.521,
        "intervals": {"miou": [0.5, 0.54]},
        "protocol": "standard",
        "split": "val",
        "resolution": "whole images, short side 224",
        "images": 1449,
        "checkpoint_digest": parameter_digest(load_checkpoint(clippy_file).params),
    }
    (tmp_path / "results.json").write_text(json.dumps({"voc": figure}))
    command = ["to-hub", f"--checkpoint={clippy_file}", f"--tokenizer={text_folder}", "--repo=someone/ours"]
    convert([*command, f"--results={tmp_path}/results.json", f"--output={tmp_path}/ours", "--push"])
    card = hub.repositories["someone/ours"]["README.md"].decode()
    assert "52.1 [50.0, 54.0] | 1,449 images of val | standard; whole images, short side 224" in card
    assert "license: apache-2.0" in card and "library_name: clippy_jax" in card
    huggingface_hub.ModelCard(card)  # its YAML can be read
    names = {"README.md", "config.json", "params.safetensors", "tokenizer/spiece.model"}
    assert names < set(hub.repositories["someone/ours"])

    images = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    before = clippy_jax.load(clippy_file, tokenizer=text_folder)
    for name in ("hf-hub:someone/ours", f"{tmp_path}/ours"):
        model = clippy_jax.load(name)
        for one, other in zip(model.encode_image(images), before.encode_image(images)):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(model.encode_text(["a photo"]), before.encode_text(["a photo"]))
    assert "README.md" not in hub.downloaded("someone/ours")


def test_a_card_says_what_each_figure_is_of(clippy_file):
    figure = {"top1": 0.5, "intervals": {"top1": [0.4, 0.6]}, "images": 9}
    figure |= dict.fromkeys(("split", "protocol", "resolution"), "as said")
    names = ("imagenet_v2", "wds/wds_cars", "waterbirds", "linear_probe", "retrieval", "grouping", "coco_stuff")
    card = model_card("a/b", load_checkpoint(clippy_file, with_moments=False), "mit", dict.fromkeys(names, figure), {})
    zero_shot = 3 * ["zero-shot-image-classification"]
    types = {of.task_name: of.task_type for of in huggingface_hub.ModelCard(card).data.eval_results}
    assert [types[name] for name in names] == [
        *(*zero_shot, "image-classification", "image-text-retrieval", "image-segmentation", "image-segmentation")
    ]


def test_a_card_tells_the_recipe_and_no_path(clippy_file):
    recipe = {"input": {"train": "/data/x", "image_features": "/data/y", "batch_size": 8}, "seed": 3}
    card = model_card("a/b", load_checkpoint(clippy_file, with_moments=False), "mit", {}, recipe)
    assert "config.input.batch_size = 8\nconfig.seed = 3\n" in card and "/data" not in card


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--repo=ours", "--output=x"], "--repo=ours must be ORG/NAME"),
        (["--repo=a/b"], "to-hub takes --output=DIR, --push, or both"),
        (["--repo=a/b", "--output=x", "--private"], "--private goes with --push"),
        (["--repo=a/b", "--output=x"], "carries no tokenizer; give one with --tokenizer=DIR"),
        (["--repo=a/b", "--output=x", "--results={figures}", "--tokenizer={text}"], "holds figures of other weights"),
        (["--repo=a/b", "--output=x", "--results={words}", "--tokenizer={text}"], "words.txt cannot be read"),
        (["--repo=a/b", "--output=x", "--results={part}", "--tokenizer={text}"], "part.json cannot be read (KeyError"),
    ],
)
def test_wrong_commands_to_hub(arguments, says, clippy_file, text_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    other = {"voc": {"checkpoint_digest": "sha256:0", "intervals": {}, "protocol": "", "split": ""}}
    (tmp_path / "figures.json").write_text(json.dumps(other))
    part = {"voc": other["voc"] | {"intervals": {"miou": [0.5, 0.6]}}}  # without the figure itself
    (tmp_path / "part.json").write_text(json.dumps(part))
    (tmp_path / "words.txt").write_text("words")
    files = {"figures": "figures.json", "part": "part.json", "words": "words.txt"}
    places = {name: tmp_path / file for name, file in files.items()} | {"text": text_folder}
    with pytest.raises(SystemExit):
        convert(["to-hub", f"--checkpoint={clippy_file}", *(part.format(**places) for part in arguments)])
    message = capsys.readouterr().err
    assert message.startswith("error: ") and says in message and message.count("\n") == 1
    assert not (tmp_path / "x").exists()
