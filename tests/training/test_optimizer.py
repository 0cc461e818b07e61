"""AdamW: which parameters decay, and updates beside `torch.optim.AdamW`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from clippy_jax.mesh import make_mesh
from clippy_jax.models.clippy import CLIPpy
from clippy_jax.training.optimizer import decay_mask, make_optimizer, split_frozen
from clippy_jax.training.state import TrainState
from clippy_jax.training.step import make_train_step
from clippy_jax.weights.rules import to_torch
from clippy_jax.weights.torch_names import clippy_rules
from tests.models import configurations
from tests.models.torch_twin import gradients_of, params_of, public_names, random_twin
from tests.training.tiny_run import CONSTANT_RATE, batch, packed, tiny_config
from tools.benchmarks.torch_clippy import contrastive_loss

LEARNING_RATE = CONSTANT_RATE.peak_learning_rate


def decays_in_public_code(name: str, dimensions: int) -> bool:
    return dimensions >= 2 and not any(word in name for word in ("bn", "ln", "bias", "logit_scale"))


def torch_adamw(twin):
    """The public recipe's optimizer over a twin."""
    decayed, undecayed = [], []
    for name, parts in public_names(twin).items():
        (decayed if decays_in_public_code(name, parts[0].ndim) else undecayed).extend(parts)
    groups = [{"params": undecayed, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.2}]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8)


def largest_difference(ours, theirs):
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - b).max()), ours, theirs)))


@pytest.mark.parametrize("gated", [False, True])
def test_decay_mask_is_the_public_rule(gated):
    config = configurations.model(
        configurations.image_tower("B/16"), configurations.text_tower("base", gated_mlp=gated)
    )
    images, tokens = jnp.zeros((1, 32, 32, 3), jnp.uint8), jnp.ones((1, 2), jnp.int32)
    params = jax.eval_shape(CLIPpy(config).init, jax.random.key(0), images, tokens)["params"]
    # The mask, as if it were weights: the rule tables carry it to the names of the public checkpoint.
    mask = jax.tree.map(lambda decays, leaf: np.broadcast_to(decays, leaf.shape), decay_mask(params), params)
    tensors = to_torch(mask, clippy_rules(gated=gated, image_projection=False))
    del tensors["text.0.auto_model.encoder.embed_tokens.weight"]  # the same tensor as `shared`
    for name, tensor in tensors.items():
        assert tensor.all() == tensor.any() == decays_in_public_code(name, tensor.ndim), name
    decayed = sum(bool(tensor.all()) for tensor in tensors.values())
    assert (len(tensors) - decayed, decayed) == ((126, 137) if gated else (126, 125))


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_updates_equal_torch_on_the_same_gradients(clip):
    """Three updates; the gradients' norm is on either side of the clip."""
    twin = random_twin(configurations.model())
    params = params_of(twin)
    config = tiny_config(gradient_clip_norm=clip)
    optimizer = make_optimizer(config.optimizer, config.schedule)
    update = jax.jit(optimizer.update)
    state, theirs = optimizer.init(params), torch_adamw(twin)
    torch.manual_seed(1)
    for scale in (1e-1, 1e-4, 1e-3):
        for parameter in twin.parameters():
            parameter.grad = scale * torch.randn_like(parameter)
        gradient = gradients_of(twin)
        if clip:
            norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), clip)
            assert (norm > clip) == (scale == 1e-1)
        theirs.step()
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        assert largest_difference(params, params_of(twin)) <= 1e-6


def test_one_training_step_equals_torch():
    twin = random_twin(configurations.model())
    before = params_of(twin)
    images, tokens = batch()
    config = tiny_config()
    optimizer = make_optimizer(config.optimizer, config.schedule)
    state = TrainState(jnp.int32(0), before, optimizer.init(before), jax.random.key(0))
    step = jax.jit(make_train_step(config, make_mesh()), compiler_options=configurations.FULLY_OPTIMISED)
    after, metrics = step(state, images, packed(tokens))

    loss = contrastive_loss(*twin(torch.tensor(images), torch.tensor(tokens)))
    loss.backward()
    torch_adamw(twin).step()
    np.testing.assert_allclose(metrics["loss"], loss.item(), rtol=1e-5)

    # AdamW's first update is g / (|g| + 1e-8): where a gradient is itself rounding noise (a bias on the keys shifts all
    # logits of a query alike, so its true gradient is 0), so is its update, in PyTorch as here. All others must agree.
    ours, theirs, gradients = map(jax.tree.leaves, (after.params, params_of(twin), gradients_of(twin)))
    noise = 0
    for mine, wanted, gradient in zip(ours, theirs, gradients):
        disagree = np.abs(np.asarray(mine) - wanted) > 1e-6
        assert (np.abs(gradient[disagree]) < 1e-6).all()
        noise += disagree.sum()
    assert noise < 0.01 * sum(leaf.size for leaf in theirs)


def test_decay_shrinks_matrices_and_nothing_else():
    params = params_of(random_twin(configurations.model()))
    config = tiny_config()
    optimizer = make_optimizer(config.optimizer, config.schedule)
    updates, _ = jax.jit(optimizer.update)(jax.tree.map(np.zeros_like, params), optimizer.init(params), params)
    expected = jax.tree.map(lambda decays, p: -LEARNING_RATE * 0.2 * p * decays, decay_mask(params), params)
    assert largest_difference(updates, expected) <= 1e-9
    assert not np.any(updates["text"]["relative_position_bias"]["embedding"])
    assert np.all(updates["image"]["cls_token"]) and np.all(updates["text"]["token_embedding"]["embedding"])


def test_split_frozen_parts_by_tower():
    params = {"image": 1, "text": 2, "image_projection": 3, "logit_scale": 4}
    trained, frozen = split_frozen(params, ("image",))
    assert (trained, frozen) == ({"text": 2, "image_projection": 3, "logit_scale": 4}, {"image": 1})
    assert split_frozen(params, ()) == (params, {})
