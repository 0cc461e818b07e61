"""The benchmarks' peer computes what the reference computes, so that both sides of a benchmark do the same work."""

import dataclasses

import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from tests.models import configurations
from tests.models.torch_twin import gradients_of, params_of, random_twin, relative_error, relative_errors
from tools.benchmarks.torch_clippy import TorchCLIPpy, contrastive_loss

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
# Longer than the relative distances that have a bucket each and those that share one.
TOKENS = RANDOM.integers(1, 100, (3, 160)) * (np.arange(160) < [[160], [1], [31]])
CONFIG = configurations.model(pooling="max_with_cls")


def peer_with(params, config):
    """The peer with the weights of our parameter tree."""
    tensors = {}
    for (*modules, leaf), value in flatten_dict(params).items():
        names = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
        layers = range(len(value)) if "blocks" in modules else (None,)
        for layer in layers:
            one = np.array(value if layer is None else value[layer])
            path = ".".join([*modules, names.get(leaf, leaf)])
            path = path if layer is None else path.replace("blocks", f"blocks.{layer}")
            tensors[path] = torch.from_numpy(one.T.copy() if leaf == "kernel" else one)
    peer = TorchCLIPpy(config).eval()
    peer.load_state_dict(tensors, strict=True)
    return peer


def outcome(model):
    """All three outputs, and the gradient of each parameter."""
    outputs = model(torch.tensor(IMAGES), torch.tensor(TOKENS))
    contrastive_loss(*outputs).backward()
    return outputs, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("rematerialise", [False, True])
def test_outputs_and_gradients_are_those_of_the_reference(rematerialise):
    twin = random_twin(CONFIG)
    config = dataclasses.replace(CONFIG, rematerialise=rematerialise)
    outputs, gradients = outcome(peer_with(params_of(twin), config))
    expected, _ = outcome(twin)
    for ours, theirs in zip(outputs, expected):
        assert relative_error(ours.detach(), theirs) <= 1e-5
    errors = relative_errors(gradients, peer_with(gradients_of(twin), config).state_dict())
    assert max(errors.values()) <= 1e-4, errors


def test_patch_dropout_keeps_the_share_that_we_keep():
    config = configurations.model(configurations.image_tower(patch_dropout=0.7), pooling="max_with_cls")
    peer = TorchCLIPpy(config).train()
    assert peer.image(torch.tensor(IMAGES)).shape[1] == 1 + int(196 * (1 - 0.7))
    assert peer.eval().image(torch.tensor(IMAGES)).shape[1] == 1 + 196


def test_dropout_of_the_texts_is_on_in_training_alone():
    peer = TorchCLIPpy(configurations.model(text=configurations.text_tower(dropout=0.5), pooling="max_with_cls"))
    tokens = torch.tensor(TOKENS)
    assert not torch.allclose(peer.train().text(tokens), peer.text(tokens))
    torch.testing.assert_close(peer.eval().text(tokens), peer.text(tokens))


@pytest.mark.parametrize(
    "text, changes", [(dict(), dict(pooling="max")), (dict(gated_mlp=True), dict(pooling="max_with_cls"))]
)
def test_other_models_are_refused(text, changes):
    with pytest.raises(ValueError, match="the peer pools by max_with_cls"):
        TorchCLIPpy(configurations.model(text=configurations.text_tower(**text), **changes))
