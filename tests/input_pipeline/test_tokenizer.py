import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from transformers import T5Tokenizer

from clippy_jax.errors import InputError
from clippy_jax.input_pipeline.tokenizer import copy_tokenizer, load_tokenizer

TEXTS = [
    "a photo of an apple",
    "",
    " ",
    "  a  photo \t of\na zebra ",
    "apple \u3000zebra\u00a0dog",
    "☃ snow 😀 apple 👩‍👩‍👧",
    "ﬁne CAFÉ cafe\u0301 ①",
    "\u200bapple",
    "▁apple ▁",
    "x\x00y",
    "Ünïcödé 漢字 קצת",
    'it\'s 100% "red", & <b>blue</b>!',
    "zebra " * 60,
    "a" * 300,
]


@pytest.fixture(params=["spiece.model", "tokenizer.json"])
def folder(request, spiece_folder, tokenizer_json_folder):
    return spiece_folder if request.param == "spiece.model" else tokenizer_json_folder


@pytest.mark.parametrize("max_length", [16, 77])
def test_ids_are_those_of_transformers(folder, max_length):
    expected = T5Tokenizer.from_pretrained(folder)(
        TEXTS, padding="max_length", truncation=True, max_length=max_length, return_tensors="np"
    )["input_ids"]
    ids = load_tokenizer(folder).encode(TEXTS, max_length)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize("text", ["apple </s> zebra", "</s>", "<unk> a", "a</s>b", "x <extra_id_0> y"])
def test_a_marker_in_a_text_is_the_marker_as_in_transformers(folder, text):
    from_spiece = folder.joinpath("spiece.model").exists()
    reference = T5Tokenizer.from_pretrained(folder, **({"extra_ids": 0} if from_spiece else {}))
    expected = reference([text], padding="max_length", truncation=True, max_length=64, return_tensors="np")["input_ids"]
    np.testing.assert_array_equal(load_tokenizer(folder).encode([text], 64), expected)


def test_no_text_has_padding_in_its_middle(folder):
    tokenizer = load_tokenizer(folder)
    for text in ("apple <pad> zebra", "<pad>", "<pad>" * 100, "a<pad>b </s>"):
        (ids,) = tokenizer.encode([text], 32)
        length = np.count_nonzero(ids)
        assert ids[:length].all() and ids[length - 1] == 1


def test_copied_files_are_the_same_tokenizer(folder, tmp_path):
    tokenizer = load_tokenizer(folder)
    copy_tokenizer(folder, tmp_path)
    copied = load_tokenizer(tmp_path)
    np.testing.assert_array_equal(copied.encode(TEXTS, 32), tokenizer.encode(TEXTS, 32))
    assert copied.digest() == tokenizer.digest()


def test_another_tokenizer_has_another_digest(spiece_folder, tokenizer_json_folder, tmp_path):
    file = json.loads((tokenizer_json_folder / "tokenizer.json").read_text())
    file["model"]["vocab"][10][1] -= 1.0
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    assert load_tokenizer(tmp_path).digest() != load_tokenizer(tokenizer_json_folder).digest()


def test_a_local_folder_asks_neither_the_network_nor_PyTorch(spiece_folder, tokenizer_json_folder):
    """In a process of its own, with the hub allowed: `HF_HUB_OFFLINE` is read when the library is imported.

    PyTorch takes a second and 150 MB to import.
    """
    code = f"""
import socket, sys
def refuse(*arguments, **options):
    raise SystemExit("the network was asked")
socket.socket.connect = socket.getaddrinfo = refuse
from clippy_jax.input_pipeline.tokenizer import copy_tokenizer, load_tokenizer
for folder in {str(spiece_folder)!r}, {str(tokenizer_json_folder)!r}:
    print(load_tokenizer(folder).encode(["apple"], 4).shape)
print("torch" in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=environment)
    assert done.stdout == "(1, 4)\n" * 2 + "False\n", done.stderr
    assert done.stderr == ""


def test_truncation_and_padding_stored_in_the_file_are_ignored(tokenizer_json_folder, tmp_path):
    import tokenizers

    stored = tokenizers.Tokenizer.from_file(str(tokenizer_json_folder / "tokenizer.json"))
    stored.enable_truncation(4)
    stored.enable_padding(length=128)
    stored.save(str(tmp_path / "tokenizer.json"))
    expected = load_tokenizer(tokenizer_json_folder).encode(TEXTS, 77)
    np.testing.assert_array_equal(load_tokenizer(tmp_path).encode(TEXTS, 77), expected)


def test_ids_are_below_the_vocabulary_size(folder):
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode(TEXTS, 77).max() < tokenizer.vocabulary_size


def test_threads_may_share_a_tokenizer(folder):
    tokenizer = load_tokenizer(folder)
    expected = tokenizer.encode(TEXTS, 32)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for ids in pool.map(lambda _: tokenizer.encode(TEXTS, 32), range(100)):
            np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize(
    "files, longest",
    [
        ({}, 256),
        ({"sentence_bert_config.json": {"max_seq_length": 128, "do_lower_case": False}}, 128),
        ({"tokenizer_config.json": {"model_max_length": 64}}, 64),
        ({"tokenizer_config.json": {"model_max_length": int(1e30)}}, 256),
        ({"sentence_bert_config.json": {}, "tokenizer_config.json": {"model_max_length": 300}}, 300),
        ({"sentence_bert_config.json": {"max_seq_length": 40}, "tokenizer_config.json": {"model_max_length": 300}}, 40),
    ],
)
def test_longest_text_is_the_folders(folder, tmp_path, files, longest):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for name in ("sentence_bert_config.json", "tokenizer_config.json"):
        (tmp_path / name).unlink(missing_ok=True)
    for name, values in files.items():
        (tmp_path / name).write_text(json.dumps(values))
    assert load_tokenizer(tmp_path).longest_text == longest


@pytest.mark.parametrize("text", ["not JSON", "[1]", '{"max_seq_length": 0}'])
def test_a_broken_longest_text_ends_in_one_line(folder, tmp_path, text):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "sentence_bert_config.json").write_text(text)
    with pytest.raises(InputError, match="sentence_bert_config.json"):
        load_tokenizer(tmp_path)


def test_bad_folders_end_in_one_line(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no-one/nothing does not exist as a path, .* and cannot be fetched"):
        load_tokenizer("no-one/nothing")
    with pytest.raises(InputError, match="holds neither spiece.model nor tokenizer.json"):
        load_tokenizer(tmp_path)
    for name in ("tokenizer.json", "spiece.model"):
        (tmp_path / name).write_bytes(b"version https://git-lfs")
        with pytest.raises(InputError, match=f"{name} .*cannot be read") as error:
            load_tokenizer(tmp_path)
        assert "\n" not in str(error.value)
