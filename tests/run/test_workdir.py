import dataclasses
import json

import pytest

from clippy_jax.errors import InputError
from clippy_jax.run.workdir import prepare_workdir, read_config, tokenizer_folder


@pytest.fixture
def tokenizer(tmp_path):
    folder = tmp_path / "sentence-t5-tiny"
    folder.mkdir()
    (folder / "spiece.model").write_bytes(b"\x00pieces")
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"weights, large")
    return folder


@pytest.fixture
def config(config, tokenizer):
    return dataclasses.replace(config, input=dataclasses.replace(config.input, tokenizer=str(tokenizer)))


def with_model(config, **fields):
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **fields))


def test_workdir_carries_config_and_tokenizer(tmp_path, config):
    workdir = tmp_path / "runs" / "first"
    assert prepare_workdir(workdir, config) == []
    assert read_config(workdir) == config
    assert json.loads((workdir / "config.json").read_text())["model"]["pooling"] == "max"
    assert sorted(path.name for path in workdir.iterdir()) == ["config.json", "tokenizer"]
    files = {path.name: path.read_bytes() for path in tokenizer_folder(workdir).iterdir()}
    assert files == {"spiece.model": b"\x00pieces", "tokenizer_config.json": b"{}"}


def test_restart_reports_and_saves_what_changed(tmp_path, config):
    prepare_workdir(tmp_path / "run", config)
    changed = with_model(dataclasses.replace(config, log_every_steps=7), rematerialise=True)
    assert prepare_workdir(tmp_path / "run", changed) == [
        "config.model.rematerialise was False and is now True",
        f"config.log_every_steps was {config.log_every_steps} and is now 7",
    ]
    assert read_config(tmp_path / "run") == changed
    assert prepare_workdir(tmp_path / "run", changed) == []


def test_restart_with_another_model_is_refused_and_changes_nothing(tmp_path, config):
    workdir = tmp_path / "run"
    prepare_workdir(workdir, config)
    wider = with_model(config, image=dataclasses.replace(config.model.image, width=96))
    with pytest.raises(InputError) as error:
        prepare_workdir(workdir, wider)
    assert str(error.value) == (
        f"--workdir={workdir} holds a run with config.model.image.width=128, not 96; "
        "use another --workdir or that run's model"
    )
    assert read_config(workdir) == config


def test_restart_with_another_tokenizer_is_refused(tmp_path, config, tokenizer):
    prepare_workdir(tmp_path / "run", config)
    (tokenizer / "spiece.model").write_bytes(b"other pieces")
    with pytest.raises(InputError, match=r"config.input.tokenizer: .* differs from .*/run/tokenizer, which this run"):
        prepare_workdir(tmp_path / "run", config)


def test_files_beside_the_tokenizers_model_may_come_and_go(tmp_path, config, tokenizer):
    prepare_workdir(tmp_path / "run", config)
    (tokenizer / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
    (tokenizer / "tokenizer_config.json").unlink()
    assert prepare_workdir(tmp_path / "run", config) == []


def test_interrupted_copy_of_the_tokenizer_is_replaced(tmp_path, config):
    leftover = tmp_path / "run" / "tokenizer.tmp"
    leftover.mkdir(parents=True)
    (leftover / "spiece.mo").write_bytes(b"\x00pi")
    prepare_workdir(tmp_path / "run", config)
    assert sorted(path.name for path in tokenizer_folder(tmp_path / "run").iterdir()) == [
        "spiece.model",
        "tokenizer_config.json",
    ]
    assert not leftover.exists()


def test_tokenizer_folder_without_a_model_is_refused_before_anything_is_written(tmp_path, config, tokenizer):
    (tokenizer / "spiece.model").unlink()
    with pytest.raises(InputError, match="tokenizer: .* holds neither spiece.model nor tokenizer.json"):
        prepare_workdir(tmp_path / "run", config)
    assert list((tmp_path / "run").iterdir()) == []


def test_unwritable_workdir_is_refused(tmp_path, config):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"--workdir={tmp_path}/file/run cannot be written: Not a directory"):
        prepare_workdir(tmp_path / "file" / "run", config)


def test_folder_that_is_no_workdir_is_named(tmp_path):
    with pytest.raises(InputError, match="config.json does not exist; .* is not the workdir of a run"):
        read_config(tmp_path)
    with pytest.raises(InputError, match="tokenizer does not exist; .* carries no tokenizer"):
        tokenizer_folder(tmp_path)


@pytest.mark.parametrize(
    "text, message", [('{"model": ', "cannot be read: "), ('{"seeed": 1}', "config.seeed is not a configuration key")]
)
def test_damaged_config_is_named(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=f"{tmp_path}/config.json.*{message}"):
        read_config(tmp_path)
