import dataclasses
import json

import pytest

from clippy_jax.config import TaskConfig
from clippy_jax.errors import InputError
from clippy_jax.run.workdir import (
    config_overview,
    prepare_workdir,
    read_config,
    read_model,
    read_optimizer,
)


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


def with_tasks(config, **tasks):
    return dataclasses.replace(config, evals=dataclasses.replace(config.evals, tasks=tasks))


def with_model(config, **fields):
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **fields))


def test_workdir_carries_config_and_tokenizer(tmp_path, config):
    workdir = tmp_path / "runs" / "first"
    assert prepare_workdir(workdir, config) == []
    assert read_config(workdir) == config
    assert json.loads((workdir / "config.json").read_text())["model"]["pooling"] == "max"
    assert sorted(path.name for path in workdir.iterdir()) == ["config.json", "tokenizer"]
    files = {path.name: path.read_bytes() for path in (workdir / "tokenizer").iterdir()}
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


def test_restart_with_other_evaluations_reports_them(tmp_path, config):
    voc, coco = TaskConfig("/voc", 5), TaskConfig("/coco", 7)
    prepare_workdir(tmp_path, with_tasks(config, voc=voc, context=TaskConfig("", 3)))
    assert prepare_workdir(tmp_path, with_tasks(config, voc=voc, coco=coco, ade20k=TaskConfig("", 3))) == [
        "config.evals.tasks.coco.path is new: '/coco'",
        "config.evals.tasks.coco.every_steps is new: 7",
    ]
    assert prepare_workdir(tmp_path, with_tasks(config, coco=coco)) == [
        "config.evals.tasks.voc.path was '/voc' and is gone",
        "config.evals.tasks.voc.every_steps was 5 and is gone",
    ]


def edit(workdir, **groups):
    """Puts fields into a saved configuration, as another version would have written them; None takes one away."""
    values = json.loads((workdir / "config.json").read_text())
    for group, fields in groups.items():
        if not isinstance(fields, dict):
            values[group] = fields
            continue
        values.setdefault(group, {}).update(fields)
        values[group] = {name: value for name, value in values[group].items() if value is not None}
    (workdir / "config.json").write_text(json.dumps(values))


def test_a_run_of_another_version_is_used_as_long_as_what_is_used_is_the_same(tmp_path, config):
    prepare_workdir(tmp_path, config)
    edit(tmp_path, future={"option": 1}, fast=True, input={"flip": None, "mixup": 0.5}, optimizer={"lookahead": True})
    assert read_model(tmp_path) == (config.model, config.input.image_size)
    assert read_optimizer(tmp_path) == (config.optimizer, config.schedule)
    assert prepare_workdir(tmp_path, config) == [
        "config.input.flip is new: True",
        "config.input.mixup was 0.5 and is gone",
        "config.optimizer.lookahead was True and is gone",
        "config.future.option was 1 and is gone",
        "config.fast was True and is gone",
    ]
    assert read_config(tmp_path) == config

    edit(tmp_path, model={"third_tower": 1})
    for use in (read_model, lambda workdir: prepare_workdir(workdir, config)):
        with pytest.raises(InputError, match="config.json: model.third_tower is not a configuration key"):
            use(tmp_path)


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


def test_interrupted_copy_of_the_tokenizer_is_never_read(tmp_path, config):
    leftover = tmp_path / "run" / ".tokenizer.1.incomplete"
    leftover.mkdir(parents=True)
    (leftover / "spiece.mo").write_bytes(b"\x00pi")
    prepare_workdir(tmp_path / "run", config)
    assert sorted(path.name for path in (tmp_path / "run" / "tokenizer").iterdir()) == [
        "spiece.model",
        "tokenizer_config.json",
    ]


def test_tokenizer_folder_without_a_model_is_refused_before_anything_is_written(tmp_path, config, tokenizer):
    (tokenizer / "spiece.model").unlink()
    with pytest.raises(InputError, match="tokenizer: .* holds neither spiece.model nor tokenizer.json"):
        prepare_workdir(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_folder_that_is_no_workdir_is_named(tmp_path):
    with pytest.raises(InputError, match="config.json does not exist; .* is not the workdir of a run"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "text, message",
    [('{"model": ', "cannot be read \\(Expecting value"), ('{"seeed": 1}', "config.seeed is not a configuration key")],
)
def test_damaged_config_is_named(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=f"{tmp_path}/config.json.*{message}"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("[]", r"config must be a group of fields, not \[\]"),
        ("{}", "model must be a group of fields, not None"),
        ('{"model": 3}', "model must be a group of fields, not 3"),
    ],
)
def test_damaged_model_is_named(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=f"{tmp_path}/config.json: {message}"):
        read_model(tmp_path)


def test_a_run_without_its_image_size_is_named(tmp_path, config):
    prepare_workdir(tmp_path, config)
    edit(tmp_path, input={"image_size": None})
    with pytest.raises(InputError, match="config.input.image_size is missing; it must be int"):
        read_model(tmp_path)


def test_the_overview_names_fields_as_they_are_overridden(config):
    lines = dict(line.split(maxsplit=1) for line in config_overview(config).splitlines())
    assert lines["config.model.image.width"] == str(config.model.image.width)
    assert lines["config.evals.tasks.voc.path"] == repr(config.evals.tasks["voc"].path)
    assert lines["config.model.pooling"] == "'max'"
    assert len({line.index(value) for line, value in zip(config_overview(config).splitlines(), lines.values())}) == 1
