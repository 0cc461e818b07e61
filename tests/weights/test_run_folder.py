"""A run's workdir, saved from eight devices, read as a checkpoint and handed to PyTorch."""

import dataclasses
import functools
import json

import jax
import numpy as np
import optax
import pytest
import torch

from clippy_jax.errors import InputError
from clippy_jax.mesh import make_mesh, state_sharding
from clippy_jax.run.checkpointing import Checkpointer
from clippy_jax.training.optimizer import make_optimizer, split_frozen
from clippy_jax.training.state import init_state
from clippy_jax.weights.clippy_file import write_clippy
from clippy_jax.weights.load import load_checkpoint
from clippy_jax.weights.rules import to_torch
from clippy_jax.weights.torch_names import clippy_rules
from tests.training.tiny_run import tiny_config


def random_state(config, step):
    """A state in which every moment is something."""
    optimizer = make_optimizer(config.optimizer, config.schedule)
    make = functools.partial(init_state, config.model, config.loss, 224, optimizer, config.optimizer.freeze)
    rng = np.random.default_rng(step)

    def fill(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(step)
        if np.issubdtype(leaf.dtype, np.integer):
            return np.array(step, leaf.dtype)
        return np.abs(rng.normal(size=leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(fill, jax.eval_shape(make, jax.random.key(0)))


def save_run(workdir, config, steps):
    """A run with a checkpoint after each of some steps, spread over eight devices; returns their states."""
    states = {step: random_state(config, step) for step in steps}
    with Checkpointer(workdir, dataclasses.replace(config.checkpoint, keep=5), 1) as checkpointer:
        for step, state in states.items():
            checkpointer.save(step, jax.device_put(state, state_sharding(state, make_mesh(), "fsdp")))
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    (workdir / "tokenizer").mkdir()
    return states


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
