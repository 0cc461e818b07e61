"""PyTorch's own AdamW, before and after its state went through ours."""

import pathlib

import jax
import numpy as np
import pytest
import torch

from clippy_jax.errors import InputError
from clippy_jax.weights.adamw import read_moments, write_moments
from clippy_jax.weights.rules import to_flax
from clippy_jax.weights.torch_file import read_torch_file, write_torch_file
from clippy_jax.weights.torch_names import clippy_rules
from tests.weights import public_files

RULES = clippy_rules(gated=False, image_projection=False)


@pytest.fixture(scope="module")
def tensors():
    return public_files.clippy(module="")["state_dict"]


@pytest.fixture(scope="module")
def params(tensors):
    return to_flax({key: value.numpy() for key, value in tensors.items()}, RULES)


def through_a_file(contents, path):
    torch.save(contents, path)
    return read_torch_file(str(path))


@pytest.mark.parametrize("frozen, trained", [("nothing", 63), ("visual", 21), ("text", 43)])
def test_the_state_comes_back_exactly(tmp_path, tensors, params, frozen, trained):
    state = public_files.adamw(tensors, frozen=frozen).state_dict()
    assert sum(len(group["params"]) for group in state["param_groups"]) == trained
    moments = read_moments(through_a_file(state, tmp_path / "x.pt"), RULES, params, "x.pt")
    assert moments.step == 3
    write_torch_file(str(tmp_path / "y.pt"), write_moments(moments, RULES))
    back = torch.load(tmp_path / "y.pt", weights_only=True)
    assert back["param_groups"] == state["param_groups"]
    assert back["state"].keys() == state["state"].keys()
    for number, entry in state["state"].items():
        assert back["state"][number].keys() == entry.keys()
        for key, value in entry.items():
            assert torch.equal(back["state"][number][key], value) and back["state"][number][key].dtype == value.dtype


def test_moments_are_those_of_their_parameters(tmp_path, tensors, params):
    optimizer = public_files.adamw(tensors)
    moments = read_moments(through_a_file(optimizer.state_dict(), tmp_path / "x.pt"), RULES, params, "x.pt")
    by_name = [key for key in tensors if "embed_tokens" not in key]
    shapes = {key: tuple(tensors[key].shape) for key in by_name}
    assert shapes["text.0.auto_model.encoder.block.1.layer.0.SelfAttention.q.weight"] == (16, 32)
    exempt = [key for key in by_name if len(shapes[key]) < 2 or "bias" in key]
    order = exempt + [key for key in by_name if key not in exempt]
    state = optimizer.state_dict()["state"]
    query = state[order.index("text.0.auto_model.encoder.block.1.layer.0.SelfAttention.q.weight")]["exp_avg"]
    np.testing.assert_array_equal(moments.mean["text"]["blocks"]["query"]["kernel"][1], query.T)
    bias = state[order.index("visual.trunk.blocks.2.mlp.fc1.bias")]["exp_avg_sq"]
    np.testing.assert_array_equal(moments.square["image"]["blocks"]["mlp_in"]["bias"][2], bias)
    assert jax.tree.structure(moments.mean) == jax.tree.structure(params)


def test_pytorch_goes_on_as_if_nothing_had_happened(tmp_path, tensors, params):
    straight = public_files.adamw(tensors, steps=4)
    interrupted = public_files.adamw(tensors, steps=3)
    moments = read_moments(through_a_file(interrupted.state_dict(), tmp_path / "x.pt"), RULES, params, "x.pt")
    write_torch_file(str(tmp_path / "y.pt"), write_moments(moments, RULES))
    interrupted.load_state_dict(torch.load(tmp_path / "y.pt", weights_only=True))
    names = [key for key in tensors if "embed_tokens" not in key]
    exempt = [key for key in names if tensors[key].ndim < 2 or "bias" in key or "logit_scale" in key]
    in_order = exempt + [key for key in names if key not in exempt]
    parameters = [parameter for group in interrupted.param_groups for parameter in group["params"]]
    for key, parameter in zip(in_order, parameters, strict=True):
        parameter.grad = public_files.random_tensor(*parameter.shape, seed=(key, 3))
    interrupted.step()
    others = [parameter for group in straight.param_groups for parameter in group["params"]]
    for ours, theirs in zip(parameters, others, strict=True):
        assert torch.equal(ours, theirs)


def test_a_state_before_the_first_step_is_none(tmp_path, tensors, params):
    state = through_a_file(public_files.adamw(tensors, steps=0).state_dict(), tmp_path / "x.pt")
    assert read_moments(state, RULES, params, "x.pt") is None


def break_groups(state):
    state["param_groups"] = [{"params": list(range(63))}]


def break_entry(state):
    state["state"][3]["max_exp_avg_sq"] = torch.zeros(1)


def break_steps(state):
    state["state"][3]["step"] = torch.tensor(9.0)


def break_shape(state):
    state["state"][3]["exp_avg"] = torch.zeros(5)


def break_kind(state):
    state["state"] = {number: {"momentum_buffer": torch.zeros(1)} for number in range(63)}


def break_settings(state):
    state["param_groups"][0]["schedule"] = [pathlib.PurePosixPath]


@pytest.mark.parametrize(
    "break_it, says",
    [
        (break_groups, r"groups of \[63\] parameters, not \[\d+, \d+\]"),
        (break_entry, "max_exp_avg_sq"),
        (break_steps, r"has made \[3, 9\] steps"),
        (break_shape, "exp_avg of its optimizer does not fit the model: 1 misshapen"),
        (break_kind, "not PyTorch's AdamW"),
        (break_settings, "its settings are more than numbers and text.*--skip_optimizer"),
    ],
)
def test_another_optimizer_is_refused(tmp_path, tensors, params, break_it, says):
    state = public_files.adamw(tensors).state_dict()
    break_it(state)
    with pytest.raises(InputError, match=says):
        read_moments(through_a_file(state, tmp_path / "x.pt"), RULES, params, "x.pt")
