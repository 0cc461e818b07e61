"""A run's workdir, saved from eight devices, read as a checkpoint and handed to PyTorch."""

import dataclasses
import json
import pathlib
import sys

import fsspec.implementations.memory
import jax
import numpy as np
import optax
import pytest
import torch
from etils import epath
from etils.epath import gpath

from clippy_jax.errors import InputError
from clippy_jax.input_pipeline.tokenizer import copy_tokenizer, load_tokenizer
from clippy_jax.run.workdir import absolute_path, read_model
from clippy_jax.training.optimizer import make_optimizer, split_frozen
from clippy_jax.weights.clippy_file import write_clippy
from clippy_jax.weights.inspection import inspect
from clippy_jax.weights.kinds import Kind, kind_of
from clippy_jax.weights.load import load_checkpoint
from clippy_jax.weights.rules import to_torch
from clippy_jax.weights.torch_names import clippy_rules
from tests.training.tiny_run import CONSTANT_RATE, tiny_config
from tests.weights import saved_run
from tests.weights.saved_run import save_run


@pytest.mark.parametrize("freeze, clip", [((), 0.0), (("image",), 1.0)])
def test_a_run_is_read_as_it_was_saved(tmp_path, freeze, clip):
    config = tiny_config(freeze=freeze, gradient_clip_norm=clip)
    state = save_run(tmp_path / "run", config, [2])[2]
    checkpoint = load_checkpoint(str(tmp_path / "run"))
    jax.tree.map(np.testing.assert_array_equal, checkpoint.params, state.params)
    adam = optax.tree_utils.tree_get(state.optimizer_state, "ScaleByAdamState")
    jax.tree.map(np.testing.assert_array_equal, checkpoint.moments.mean, adam.mu)
    jax.tree.map(np.testing.assert_array_equal, checkpoint.moments.square, adam.nu)
    assert checkpoint.moments.step == 2
    assert [group["weight_decay"] for group in checkpoint.moments.groups] == [0.0, 0.2]
    assert checkpoint.moments.groups[0]["lr"] == pytest.approx(config.schedule.peak_learning_rate)
    assert (checkpoint.config, checkpoint.name) == (config.model, "run")
    assert checkpoint.tokenizer == str(tmp_path / "run" / "tokenizer")


def test_the_learning_rate_is_that_of_the_step_also_where_updates_were_left_out(tmp_path, monkeypatch):
    config = tiny_config(schedule=dataclasses.replace(CONSTANT_RATE, warmup_steps=2))
    state, of_adam = saved_run.random_state(config, 2), lambda node: isinstance(node, optax.ScaleByAdamState)
    one_less = lambda node: node._replace(count=np.int32(1)) if of_adam(node) else node  # noqa: E731
    state = state.replace(optimizer_state=jax.tree.map(one_less, state.optimizer_state, is_leaf=of_adam))
    monkeypatch.setattr(saved_run, "random_state", lambda config, step: state)
    save_run(tmp_path / "run", config, [2])
    moments = load_checkpoint(str(tmp_path / "run")).moments
    assert moments.step == 1 and moments.groups[0]["lr"] == pytest.approx(config.schedule.peak_learning_rate)


def test_the_bias_of_the_sigmoid_loss_stays_in_the_run(tmp_path):
    """So that every run is a CLIPpy that PyTorch's code reads, whatever its loss."""
    config = tiny_config()
    config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, kind="sigmoid"))
    state = save_run(tmp_path / "run", config, [2])[2]
    assert "logit_bias" in state.params
    for with_moments in (True, False):
        checkpoint = load_checkpoint(str(tmp_path / "run"), with_moments=with_moments)
        assert checkpoint.params.keys() == state.params.keys() - {"logit_bias"}
    write_clippy(str(tmp_path / "x.pt"), load_checkpoint(str(tmp_path / "run")))
    assert "logit_bias" not in torch.load(tmp_path / "x.pt", weights_only=True)["state_dict"]


def change_config(workdir, change):
    values = json.loads((workdir / "config.json").read_text())
    change(values)
    (workdir / "config.json").write_text(json.dumps(values))


def test_only_what_is_used_of_a_configuration_has_to_be_understood(tmp_path):
    """A workdir of another version: fields renamed, added and gone all over, but for the model and the optimizer."""
    config = tiny_config()
    save_run(tmp_path / "run", config, [2])

    def change(values):
        values["new_group"] = {"x": 1}
        values["evals"] = values["loss"] = "other"
        values["input"] = {"image_size": 96, "renamed": True}
        del values["checkpoint"], values["seed"]

    change_config(tmp_path / "run", change)
    checkpoint = load_checkpoint(str(tmp_path / "run"))
    assert (checkpoint.config, checkpoint.image_size) == (config.model, 96)
    assert checkpoint.moments.groups[1]["weight_decay"] == 0.2
    change_config(tmp_path / "run", lambda values: values.pop("optimizer"))
    assert load_checkpoint(str(tmp_path / "run"), with_moments=False).config == config.model
    with pytest.raises(InputError, match="optimizer.*pass --skip_optimizer to convert the weights alone"):
        load_checkpoint(str(tmp_path / "run"))
    assert "AdamW after 2 steps" in inspect(str(tmp_path / "run"))
    change_config(tmp_path / "run", lambda values: values["model"].pop("pooling"))
    with pytest.raises(InputError, match="config.json.*model.pooling is missing"):
        load_checkpoint(str(tmp_path / "run"), with_moments=False)


def test_any_step_without_moments(tmp_path):
    states = save_run(tmp_path / "run", tiny_config(), [1, 2])
    for step, state in (1, states[1]), (None, states[2]):
        checkpoint = load_checkpoint(str(tmp_path / "run"), step, with_moments=False)
        assert checkpoint.moments is None
        np.testing.assert_array_equal(checkpoint.params["logit_scale"], state.params["logit_scale"])
    for with_moments in (False, True):
        with pytest.raises(InputError, match="no checkpoint of step 7"):
            load_checkpoint(str(tmp_path / "run"), 7, with_moments)


def test_a_run_without_a_checkpoint(tmp_path):
    save_run(tmp_path / "run", tiny_config(), [])
    with pytest.raises(InputError, match="no complete checkpoint"):
        load_checkpoint(str(tmp_path / "run"))


@pytest.mark.parametrize("freeze", [(), ("image",)])
def test_pytorch_makes_the_step_that_the_run_would_have_made(tmp_path, freeze):
    config = tiny_config(freeze=freeze)
    state = save_run(tmp_path / "run", config, [2])[2]
    write_clippy(str(tmp_path / "x.pt"), load_checkpoint(str(tmp_path / "run")))
    contents = torch.load(tmp_path / "x.pt", weights_only=True)
    tensors = contents["state_dict"]
    names = [key for key in tensors if "embed_tokens" not in key and not (freeze and "visual" in key)]
    exempt = [key for key in names if tensors[key].ndim < 2 or "bias" in key]
    parameters = {key: torch.nn.Parameter(tensors[key].clone()) for key in names}
    optimizer = torch.optim.AdamW(
        [
            {"params": [parameters[key] for key in exempt]},
            {"params": [parameters[key] for key in names if key not in exempt]},
        ]
    )
    optimizer.load_state_dict(contents["optimizer"])
    for parameter in parameters.values():
        parameter.grad = parameter.detach() - 0.5
    optimizer.step()

    @jax.jit
    def our_step(params, optimizer_state):
        gradient = jax.tree.map(lambda x: x - 0.5, params)
        updates, _ = make_optimizer(config.optimizer, config.schedule).update(gradient, optimizer_state, params)
        return optax.apply_updates(params, updates)

    trained, frozen = split_frozen(state.params, freeze)
    ours = {**our_step(trained, state.optimizer_state), **frozen}
    expected = to_torch(ours, clippy_rules(gated=False, image_projection=False))
    for key, parameter in parameters.items():
        difference = np.abs(parameter.detach().numpy() - expected[key.removeprefix("module.")]).max()
        assert difference < 1e-6, key


class Bucket(fsspec.implementations.memory.MemoryFileSystem):
    """Google's object store, in memory."""

    protocol = "gs"
    store, pseudo_dirs = {}, [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("gs://", "memory://"))


def test_a_remote_workdir_is_a_run(monkeypatch, spiece_folder):
    """All but the arrays, which Orbax reads through a library that knows real stores alone."""
    for name in ("gs", "gcs"):
        monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, name, Bucket)
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)  # TensorFlow's own reader of the store goes first
    old = pathlib.Path(__file__).parents[1] / "run" / "old_workdir"
    bucket = epath.Path("gs://bucket/run")
    (bucket / "tokenizer").mkdir(parents=True)
    (bucket / "checkpoints" / "6").mkdir(parents=True)
    (bucket / "checkpoints" / "6" / "commit_success.txt").write_text("")  # so Orbax tells complete ones there
    (bucket / "config.json").write_text((old / "config.json").read_text())
    copy_tokenizer(spiece_folder, bucket / "tokenizer")
    assert kind_of("gs://bucket/run") == Kind.RUN
    assert str(absolute_path("gs://bucket/run")) == "gs://bucket/run"
    assert read_model("gs://bucket/run") == read_model(old)
    ids = load_tokenizer("gs://bucket/run/tokenizer").encode(["a photo"], 8)
    np.testing.assert_array_equal(ids, load_tokenizer(spiece_folder).encode(["a photo"], 8))
    with pytest.raises(InputError, match="gs://bucket/run/checkpoints/6 is damaged"):
        load_checkpoint("gs://bucket/run")
