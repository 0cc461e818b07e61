"""A run whose numbers are no longer finite: what it leaves, how its step is made again, and updates left out."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clippy_jax import replay
from clippy_jax.divergence.diverged_step import read_diverged_step
from clippy_jax.errors import InputError
from clippy_jax.run.checkpointing import restore_arrays
from clippy_jax.train import train_and_evaluate
from clippy_jax.training import step as training_step
from clippy_jax.weights.safetensors_file import read_safetensors, write_safetensors
from tests import small_run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("shapes") / "data"


@pytest.fixture(scope="module")
def diverged(data, tmp_path_factory):
    """A run whose learning rate explodes after its checkpoint of step 2, and the line with which it ends."""
    workdir = tmp_path_factory.mktemp("diverged") / "run"
    fields = dict(checkpoint__every_steps=2, checkpoint__every_minutes=0.0, optimizer__gradient_clip_norm=0.0)
    calm = small_run.config(data, schedule__stop_step=2, schedule__peak_learning_rate=1e-3, **fields)
    train_and_evaluate(calm, workdir)
    # Between two readings of the figures, so that the step at which it happens has to be found among several.
    fields |= dict(log_every_steps=20, checkpoint__every_steps=20)
    wild = small_run.config(data, schedule__stop_step=20, schedule__peak_learning_rate=1e30, **fields)
    with pytest.raises(InputError) as ended:
        train_and_evaluate(dataclasses.replace(wild, save_diverged_batch=True), workdir)
    return workdir, str(ended.value)


def file_of(workdir):
    (file,) = (workdir / "diverged").iterdir()
    return file


def test_the_line_names_the_step_its_samples_and_the_file(diverged):
    workdir, line = diverged
    file, step = file_of(workdir), read_diverged_step(str(file_of(workdir)))
    assert f"training diverged at step {step.step}: loss nan" in line and "\n" not in line
    assert f"its batch ({step.samples[0]}, {step.samples[1]} and 14 more) is in {file}, for python -m" in line
    assert len(step.samples) == 16 and all(".tar: " in name for name in step.samples)
    assert step.batch.images.shape == (16, 32, 32, 3) and step.config.schedule.peak_learning_rate == 1e30
    params, moments = restore_arrays(workdir, ("params", "optimizer_state"))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((params, moments)))


@pytest.mark.parametrize("arrays", [True, False])
def test_the_step_is_made_again(diverged, tmp_path, capsys, arrays):
    workdir, _ = diverged
    file, step = file_of(workdir), read_diverged_step(str(file_of(workdir)))
    if not arrays:
        file = without_arrays(file, tmp_path)
    before = sorted(path for path in workdir.rglob("*"))
    replay.main([str(file)])
    output = capsys.readouterr().out
    assert f"making steps 3 to {step.step - 1} again" in output
    assert "loss           nan" in output and "gradient norm  image nan  logit_scale nan  text nan" in output
    assert "not finite     its gradient, first in image/" in output
    assert sorted(path for path in workdir.rglob("*")) == before


def without_arrays(file, folder, change=lambda values: values):
    _, metadata = read_safetensors(str(file))
    values = {key: json.dumps(change(json.loads(value))) for key, value in metadata.items()}
    write_safetensors(str(folder / file.name), {"step": np.int64(0)}, values)
    return folder / file.name


def test_the_batch_alone_is_given_to_the_checkpoint(diverged, capsys):
    workdir, _ = diverged
    replay.main([str(file_of(workdir)), "--at_checkpoint"])
    output = capsys.readouterr().out
    assert "making steps" not in output and "all is finite here" not in output.split("gradient norm")[0]
    assert math.isfinite(float(output.partition("loss           ")[2].split()[0]))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda values: values | {"samples": ["elsewhere/0.tar: 7.jpg", *values["samples"][1:]]}, "row 0 of the batch"),
        (lambda values: values | {"workdir": "/nowhere"}, "/nowhere is not the workdir of a run; say where it is by"),
        (lambda values: values | {"workdir": "ftp://host/run"}, "ftp://host/run is an address that is not read here"),
        (lambda values: values | {"config": {}}, "config.model is missing"),
        (lambda values: values | {"step": math.inf}, "was not written by a run that diverged"),
        (lambda values: [], "was not written by a run that diverged"),
    ],
)
def test_what_does_not_fit_is_one_line(diverged, tmp_path, capsys, change, message):
    with pytest.raises(SystemExit):
        replay.main([str(without_arrays(file_of(diverged[0]), tmp_path, change)), "--at_checkpoint"])
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.fixture
def poisoned(monkeypatch):
    """From here on, a step whose number is in the list that is given has a loss and a gradient of NaN."""
    steps = []
    real = training_step.make_loss_gradient

    def make(config, mesh):
        loss_gradient = real(config, mesh)

        def poisoned(state, images, texts):
            bad = jnp.isin(state.step + 1, jnp.array(steps, jnp.int32))
            return jax.tree.map(lambda x: jnp.where(bad, jnp.nan, x), loss_gradient(state, images, texts))

        return poisoned

    monkeypatch.setattr(training_step, "make_loss_gradient", make)
    return steps


def losses_of(workdir):
    return {line["step"]: line for line in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())}


def test_updates_are_left_out_and_counted_also_across_restarts(data, poisoned, tmp_path, capsys):
    poisoned.extend([2, 5, 7])

    def config(stop, most):
        fields = dict(checkpoint__every_steps=3, checkpoint__every_minutes=0.0, schedule__stop_step=stop)
        return dataclasses.replace(small_run.config(data, **fields), skip_nonfinite_updates=most)

    train_and_evaluate(config(6, 2), tmp_path / "whole")
    output = capsys.readouterr().out
    assert "step 2  loss nan, gradient norm nan: update left out (1 of at most 2)" in output
    lines = losses_of(tmp_path / "whole")
    assert [lines[step]["updates_left_out"] for step in range(1, 7)] == [0, 1, 1, 1, 2, 2]
    assert lines[2]["loss"] is None and lines[6]["loss"] > 0
    assert lines[2]["logit_scale"] == lines[1]["logit_scale"]  # the parameters stayed

    train_and_evaluate(config(4, 2), tmp_path / "halves")
    train_and_evaluate(config(6, 2), tmp_path / "halves")
    one, other = (restore_arrays(tmp_path / name, ("params", "optimizer_state")) for name in ("whole", "halves"))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert losses_of(tmp_path / "halves")[6]["updates_left_out"] == 2
    with pytest.raises(InputError, match="diverged at step 7: loss nan, gradient norm nan, after 2 updates left out; "):
        train_and_evaluate(config(9, 2), tmp_path / "halves")
