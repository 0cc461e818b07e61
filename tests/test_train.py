"""Training runs from configuration to checkpoint, on a small Shapes data set and eight forced CPU devices."""

import dataclasses
import json
import os
import pathlib
import runpy
import shutil
import signal
import socket
import sys
import time
import types
import typing

import jax
import numpy as np
import pytest

from clippy_jax import train
from clippy_jax.config import Config, LossConfig, TaskConfig, WandbConfig, parse
from clippy_jax.encode_images import encode_images
from clippy_jax.errors import InputError
from clippy_jax.evaluators.zero_shot_classification import ZeroShotClassification
from clippy_jax.run.checkpointing import Checkpointer, restore_arrays
from clippy_jax.run.metrics import Progress
from clippy_jax.shapes.dataset import write_dataset
from clippy_jax.shapes.settings import Settings
from clippy_jax.train import train_and_evaluate
from clippy_jax.weights.load import load_checkpoint
from tests.programs import Program
from tests.xla_flags import xla_flags

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("shapes") / "data"
    write_dataset(folder, Settings(train_pairs=200, evaluation_images=28, image_size=32, pairs_per_shard=60), workers=1)
    return folder


@pytest.fixture
def config(data) -> Config:
    """A model of a few thousand parameters with both kinds of dropout, 20 of 40 steps, a line for each."""
    values = runpy.run_path(str(ROOT / "configs" / "shapes.py"))["get_config"]()
    values.model.image.update(image_size=32, patch_size=8, width=32, depth=2, heads=2, mlp_width=64, patch_dropout=0.5)
    values.model.text.update(width=32, depth=1, heads=2, head_width=16, mlp_width=64, embedding_width=32, dropout=0.1)
    values.input.update(train=f"{data}/train/{{00000..00003}}.tar", tokenizer=f"{data}/tokenizer")
    values.input.update(batch_size=16, texts_per_pack=2)
    values.input.image_size = values.evals.image_size = 32
    values.schedule.update(peak_learning_rate=3e-3, warmup_steps=5, decay_steps=40, stop_step=40)
    values.checkpoint.update(every_steps=20, every_minutes=0.0, keep=5)
    values.evals.update(batch_size=16)
    values.evals.tasks = {}
    values.log_every_steps = 1
    return parse(values)


def change(config: Config, group: str, **fields) -> Config:
    return dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **fields)})


def metrics_of(workdir: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses_of(workdir: pathlib.Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in metrics_of(workdir) if "loss" in line}


def assert_same_state(one: pathlib.Path, other: pathlib.Path) -> None:
    """Parameters and moments, bit for bit."""
    one, other = load_checkpoint(str(one)), load_checkpoint(str(other))
    for left, right in ((one.params, other.params), (one.moments, other.moments)):
        jax.tree.map(np.testing.assert_array_equal, left, right)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(config, tmp_path):
    config = change(change(config, "schedule", stop_step=20), "checkpoint", every_steps=10)
    train_and_evaluate(config, tmp_path / "whole")
    train_and_evaluate(change(config, "schedule", stop_step=10), tmp_path / "halves")
    assert list(losses_of(tmp_path / "halves")) == list(range(1, 11))
    train_and_evaluate(config, tmp_path / "halves")
    assert_same_state(tmp_path / "whole", tmp_path / "halves")
    whole, halves = losses_of(tmp_path / "whole"), losses_of(tmp_path / "halves")
    assert list(whole) == list(range(1, 21)) and halves == whole
    assert whole[20] < whole[1] - 0.3  # it learned something
    steps = sorted(int(path.name) for path in (tmp_path / "halves" / "checkpoints").iterdir() if path.name.isdigit())
    assert steps == [10, 20]


def test_a_finished_run_has_nothing_left_to_do(config, tmp_path, capsys):
    config = change(config, "schedule", stop_step=2)
    train_and_evaluate(config, tmp_path)
    assert "compiled for texts in 8 x " in capsys.readouterr().out
    before = (tmp_path / "metrics.jsonl").read_text()
    train_and_evaluate(config, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == before
    assert "compiled for" not in capsys.readouterr().out


def test_fsdp_trains_the_same_losses(config, tmp_path):
    config = change(config, "schedule", stop_step=5)
    train_and_evaluate(config, tmp_path / "replicated")
    train_and_evaluate(dataclasses.replace(config, parameter_sharding="fsdp"), tmp_path / "fsdp")
    replicated, fsdp = losses_of(tmp_path / "replicated"), losses_of(tmp_path / "fsdp")
    np.testing.assert_allclose(list(fsdp.values()), list(replicated.values()), rtol=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run_and_reaches_no_checkpoint(config, tmp_path):
    config = change(change(config, "schedule", peak_learning_rate=1e30), "checkpoint", every_steps=1)
    config = change(config, "optimizer", gradient_clip_norm=0.0)
    with pytest.raises(InputError, match=r"training diverged at step \d+: loss .*lower config.schedule.peak_learning"):
        train_and_evaluate(config, tmp_path)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(restore_arrays(tmp_path, ("params",))[0]))


@pytest.mark.parametrize("where, name", [(train, "open_writer"), (Progress, "report"), (Checkpointer, "close")])
def test_a_workdir_that_is_deleted_ends_the_run_in_one_line(config, tmp_path, monkeypatch, where, name):
    """Also where a writer makes the folder anew or goes on with a file that is open: nothing lost is called saved."""
    original = getattr(where, name)

    def after_deleting(*args, **kwargs):
        monkeypatch.setattr(where, name, original)
        while (tmp_path / "run").exists():  # others may be writing
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
        return original(*args, **kwargs)

    monkeypatch.setattr(where, name, after_deleting)
    config = change(config, "schedule", stop_step=2)
    with pytest.raises(InputError, match=f"{tmp_path}/run.* cannot be written: .*(deleted|No such file)"):
        train_and_evaluate(config, tmp_path / "run")


def test_evaluations_at_their_steps_and_at_the_end(config, data, tmp_path, monkeypatch):
    made, call, report = [], train.call_and_time_compilation, train.Progress.report
    monkeypatch.setattr(train, "call_and_time_compilation", lambda *rest: made.append("step") or call(*rest))
    monkeypatch.setattr(
        train.Progress, "report", lambda self, step, *rest: made.append(step) or report(self, step, *rest)
    )
    tasks = {"imagenet": TaskConfig(f"{data}/imagenet/val", 2), "voc": TaskConfig(f"{data}/voc", 0)}
    tasks["waterbirds"] = TaskConfig("", 1)
    config = change(change(config, "schedule", stop_step=5), "evals", tasks=tasks)
    train_and_evaluate(config, tmp_path)
    # No step waits for the report of the one before, except where an evaluation or the end comes between.
    assert made == ["step", "step", 1, 2, "step", "step", 3, 4, "step", 5]
    lines = metrics_of(tmp_path)
    assert [line["step"] for line in lines if "imagenet/top1" in line] == [2, 4, 5]
    assert [line["step"] for line in lines if "voc/miou" in line] == [5]
    assert not any("waterbirds/average" in line for line in lines)
    assert all(0 <= line["imagenet/top1"] <= 1 for line in lines if "imagenet/top1" in line)


def test_evaluations_that_a_signal_kept_from_their_end_are_made_at_the_next_start(config, data, tmp_path, monkeypatch):
    run, seen = ZeroShotClassification.run, []

    def run_or_leave(self, *args, **kwargs):
        seen.append("imagenet")
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        return run(self, *args, **kwargs)

    monkeypatch.setattr(ZeroShotClassification, "run", run_or_leave)
    tasks = {"voc": TaskConfig(f"{data}/voc", 0), "imagenet": TaskConfig(f"{data}/imagenet/val", 1)}
    config = change(change(config, "schedule", stop_step=2), "evals", tasks=tasks)
    assert [train_and_evaluate(config, tmp_path) for _ in range(3)] == [False, True, True]
    assert [line["step"] for line in metrics_of(tmp_path) if "imagenet/top1" in line] == [1, 2]
    assert [line["step"] for line in metrics_of(tmp_path) if "voc/miou" in line] == [2]
    assert len(seen) == 3


def test_a_failing_evaluation_says_so_and_stops_nothing(config, data, tmp_path, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise RuntimeError("no luck")

    monkeypatch.setattr(ZeroShotClassification, "run", fail)
    tasks = {"imagenet": TaskConfig(f"{data}/imagenet/val", 1)}
    train_and_evaluate(change(change(config, "schedule", stop_step=3), "evals", tasks=tasks), tmp_path)
    assert list(losses_of(tmp_path)) == [1, 2, 3]
    assert capsys.readouterr().out.count("RuntimeError: no luck") == 3


def test_writes_a_trace_of_the_steps_asked_for_also_where_training_ends_within_them(config, tmp_path):
    config = dataclasses.replace(change(config, "schedule", stop_step=3), profile_steps=(2, 9), log_every_steps=50)
    train_and_evaluate(config, tmp_path)
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 0
    assert list(losses_of(tmp_path)) == [1, 2, 3]
    train_and_evaluate(dataclasses.replace(config, profile_steps=(4, 5)), tmp_path)  # after the end
    assert list((tmp_path / "profile").rglob("*.xplane.pb")) == [trace]


def test_starts_from_the_weights_of_another_run(config, tmp_path, capsys):
    one_step = change(config, "schedule", stop_step=1, peak_learning_rate=0.0)
    train_and_evaluate(change(config, "schedule", stop_step=3), tmp_path / "first")
    other = dataclasses.replace(one_step, init=dataclasses.replace(config.init, clippy=str(tmp_path / "first")), seed=5)
    train_and_evaluate(other, tmp_path / "second")
    first, second = (
        restore_arrays(tmp_path / "first", ("params",))[0],
        restore_arrays(tmp_path / "second", ("params",))[0],
    )
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert "left at its initialisation" not in capsys.readouterr().out


def frozen(config: Config, backbone: pathlib.Path, **fields) -> Config:
    """A text tower for the image tower of a run, on images of which nothing is left to chance."""
    config = change(config, "optimizer", freeze=("image",))
    config = change(config, "init", image=str(backbone))
    config = change(config, "model", image=dataclasses.replace(config.model.image, patch_dropout=0.0))
    return change(config, "input", crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False, **fields)


def test_features_of_a_frozen_tower_train_as_its_images_do(config, tmp_path, capsys):
    """Also where all tokens are kept, for a projection that is trained; and a stopped run goes on the same."""
    train_and_evaluate(change(config, "schedule", stop_step=2), tmp_path / "backbone")
    config = change(config, "schedule", stop_step=6)
    config = change(
        config, "model", image_projection=True, text=dataclasses.replace(config.model.text, embedding_width=24)
    )
    train_and_evaluate(frozen(config, tmp_path / "backbone"), tmp_path / "images")
    folder = {"image_features": str(tmp_path / "features"), "image_features_dtype": "float32"}
    features = frozen(config, tmp_path / "backbone", **folder)
    encode_images(features)
    capsys.readouterr()
    train_and_evaluate(change(features, "schedule", stop_step=3), tmp_path / "run")
    train_and_evaluate(features, tmp_path / "run")
    assert "continuing after step 3" in capsys.readouterr().out
    losses, expected = losses_of(tmp_path / "run"), losses_of(tmp_path / "images")
    assert losses.keys() == expected.keys() == set(range(1, 7))
    np.testing.assert_allclose(list(losses.values()), list(expected.values()), rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="features of something else: digest of the image tower's weights is sha256:"):
        train_and_evaluate(change(features, "init", image=""), tmp_path / "other")


@pytest.mark.parametrize(
    ("group", "fields", "message"),
    [
        (
            "input",
            {"batch_size": 12},
            "config.input.batch_size is 12, which 8 devices, in packs of 2 texts, do not divide",
        ),
        (
            "evals",
            {"tasks": {"imagenett": TaskConfig("", 1)}},
            "config.evals.tasks.imagenett is not an evaluation; known",
        ),
        ("evals", {"tasks": {"voc": TaskConfig("nowhere", 1)}}, "nowhere is not a folder"),
        (
            "evals",
            {"batch_size": 12, "tasks": {"imagenet": TaskConfig("DATA", 1)}},
            "config.evals.batch_size is 12, which 8 devices do not divide",
        ),
        ("input", {"train": "nowhere/{0..3}.tar"}, "config.input.train: the folder nowhere does not exist"),
        ("input", {"tokenizer": "nowhere"}, "tokenizer"),
    ],
)
def test_wrong_input_is_named_before_anything_is_written(config, data, tmp_path, group, fields, message):
    if "imagenet" in fields.get("tasks", {}):
        fields = fields | {"tasks": {"imagenet": TaskConfig(f"{data}/imagenet/val", 1)}}
    with pytest.raises(InputError, match=message):
        train_and_evaluate(change(config, group, **fields), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_too_small_for_the_tokenizer_is_refused(config, tmp_path):
    text = dataclasses.replace(config.model.text, vocabulary_size=10)
    with pytest.raises(InputError, match="config.model.text.vocabulary_size is 10, but the tokenizer in .* has"):
        train_and_evaluate(change(config, "model", text=text), tmp_path)


def dataclasses_in(kind) -> set[type]:
    """A configuration's dataclass and those of its groups."""
    inner = [*typing.get_args(kind), *(typing.get_type_hints(kind).values() if dataclasses.is_dataclass(kind) else ())]
    return set.union({kind} if dataclasses.is_dataclass(kind) else set(), *map(dataclasses_in, inner))


def test_every_field_of_the_configuration_is_read_by_a_run(config, data, tmp_path, monkeypatch):
    """An option that nothing reads would be a promise not kept (open_clip's patch dropout was one)."""
    read = set()

    def recording(self, name):
        reader = sys._getframe(1).f_globals["__name__"]  # neither the schema's checks nor `dataclasses.asdict` count
        if reader.startswith("clippy_jax.") and not reader.startswith("clippy_jax.config"):
            read.add((type(self), name))
        return object.__getattribute__(self, name)

    # One that nothing reads: the test has to find it.
    loss = dataclasses.make_dataclass("Loss", [("temperature", float, 0.07)], bases=(LossConfig,), frozen=True)
    config = dataclasses.replace(config, loss=loss("softmax", "mean"), wandb=WandbConfig("clippy", "tiny"))
    tasks = {"imagenet": TaskConfig(f"{data}/imagenet/val", 2)}
    config = change(change(config, "schedule", stop_step=2), "evals", tasks=tasks)
    wandb = types.SimpleNamespace(
        init=lambda **_: types.SimpleNamespace(id="7", log=lambda *_, **__: None, finish=lambda: None), Error=OSError
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    features = frozen(config, tmp_path, image_features=str(tmp_path / "features"))
    kinds = dataclasses_in(Config) - {LossConfig} | {loss}
    for kind in kinds:
        monkeypatch.setattr(kind, "__getattribute__", recording)
    train_and_evaluate(config, tmp_path)
    train_and_evaluate(config, tmp_path)  # what a run reads when it goes on counts, too
    encode_images(features)
    monkeypatch.undo()
    fields = {(kind, field.name) for kind in kinds for field in dataclasses.fields(kind)}
    assert len(fields) > 70 and fields - read == {(loss, "temperature")}


def test_two_processes_train_as_one_does_and_one_resumes_what_they_began(config, tmp_path):
    """With the ring loss and microbatches; `test_main.py` has the plain loss, four processes and fsdp."""
    config = change(change(config, "schedule", stop_step=6), "checkpoint", every_steps=3)
    config = dataclasses.replace(change(change(config, "loss", kind="ring"), "input", batch_size=32), microbatches=2)
    train_and_evaluate(config, tmp_path / "one")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    script = (
        "import json, sys; from clippy_jax.config import parse; from clippy_jax.train import train_and_evaluate;"
        "from clippy_jax.processes import initialize; initialize(sys.argv[1], *map(int, sys.argv[2:4]));"
        "train_and_evaluate(parse(json.loads(sys.argv[4])), sys.argv[5])"
    )
    half = json.dumps(dataclasses.asdict(change(config, "schedule", stop_step=3)))
    processes = [
        Program(
            ["-c", script, f"localhost:{port}", "2", str(number), half, tmp_path / "two"],
            {"XLA_FLAGS": xla_flags(devices=4)},
        )
        for number in range(2)
    ]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert ["step 3/3" in output for output, _ in outputs] == [True, False]
    train_and_evaluate(config, tmp_path / "two")
    one, two = losses_of(tmp_path / "one"), losses_of(tmp_path / "two")
    assert list(two) == list(one) == list(range(1, 7))
    np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-5)
