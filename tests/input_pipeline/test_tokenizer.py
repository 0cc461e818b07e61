import concurrent.futures
import json
import shutil

import numpy as np
import pytest
from transformers import T5Tokenizer

from clippy_jax.errors import InputError
from clippy_jax.input_pipeline.tokenizer import load_tokenizer

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


def test_markers_in_a_text_are_plain_text_to_sentencepiece(spiece_folder):
    ids = load_tokenizer(spiece_folder).encode(["apple </s> <pad> zebra"], 64)[0]
    length = np.count_nonzero(ids)
    assert ids[length - 1] == 1 and 1 not in ids[: length - 1] and 0 not in ids[:length]


def test_the_file_alone_is_the_tokenizer(folder, tmp_path):
    tokenizer = load_tokenizer(folder)
    (tmp_path / tokenizer.file.name).write_bytes(tokenizer.file.read_bytes())
    np.testing.assert_array_equal(load_tokenizer(tmp_path).encode(TEXTS, 32), tokenizer.encode(TEXTS, 32))


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
    with pytest.raises(InputError, match="holds neither spiece.model nor tokenizer.json"):
        load_tokenizer(tmp_path)
    for name in ("tokenizer.json", "spiece.model"):
        (tmp_path / name).write_bytes(b"version https://git-lfs")
        with pytest.raises(InputError, match=f"cannot read .*{name}") as error:
            load_tokenizer(tmp_path)
        assert "\n" not in str(error.value)
