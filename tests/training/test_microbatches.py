"""GradCache: the gradient of the whole batch, whatever the number of parts that it is computed in."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from clippy_jax.mesh import make_mesh, replicated, shard_batch, state_sharding
from clippy_jax.models.clippy import CLIPpy
from clippy_jax.training.losses.contrastive import contrastive_loss
from clippy_jax.training.microbatches import encode_in_microbatches
from clippy_jax.training.optimizer import make_optimizer
from clippy_jax.training.state import init_state
from clippy_jax.training.step import make_train_step
from tests.models import configurations
from tests.models.torch_twin import relative_errors
from tests.training.tiny_run import batch, packed, tiny_config

IMAGES, TOKENS = batch(32)
ONE_DEVICE = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
DROPOUT = configurations.model(configurations.image_tower(patch_dropout=0.5), configurations.text_tower(dropout=0.1))


def config_of(kind="softmax", microbatches=1, model=None):
    config = tiny_config(model)
    loss = dataclasses.replace(config.loss, kind=kind)
    return dataclasses.replace(config, loss=loss, microbatches=microbatches)


@functools.cache
def state_of(model, loss):
    config = tiny_config(model)
    optimizer = make_optimizer(config.optimizer, config.schedule)
    return jax.jit(lambda key: init_state(model, loss, 32, optimizer, (), key))(jax.random.key(0))


def new_state(config):
    return state_of(config.model, config.loss)


def gradient_of_step(config, parameters=None):
    """Of the training step itself, on eight devices if `parameters` says how they lie there, otherwise on one.

    After the first update, Adam's first moment is (1 - beta1) times the gradient.
    """
    state, shardings, mesh = new_state(config), {}, ONE_DEVICE
    pairs = IMAGES, packed(TOKENS, config.microbatches)
    if parameters is not None:
        mesh, config = make_mesh(), dataclasses.replace(config, parameter_sharding=parameters)
        where = state_sharding(state, mesh, parameters)
        state, pairs = jax.device_put(state, where), shard_batch(pairs, mesh)
        shardings = {"out_shardings": (where, replicated(mesh))}
    after, metrics = jax.jit(make_train_step(config, mesh), **shardings)(state, *pairs)
    scaled = jax.tree.map(lambda m: m / (1 - config.optimizer.beta1), jax.device_get(after.optimizer_state[0].mu))
    return float(metrics["loss"]), scaled


def assert_same(one, other):
    np.testing.assert_allclose(one[0], other[0], rtol=1e-5)
    errors = relative_errors(one[1], other[1])
    assert max(errors.values()) <= 1e-5, {name: error for name, error in errors.items() if error > 1e-5}


@pytest.mark.parametrize("kind, rematerialise", [("softmax", True), ("sigmoid", False)])
def test_four_parts_give_the_gradient_of_one(kind, rematerialise):
    model = configurations.model(rematerialise=rematerialise)
    assert_same(gradient_of_step(config_of(kind, 4, model)), gradient_of_step(config_of(kind, 1, model)))


@functools.cache
def dropout_on_one_device():
    return gradient_of_step(config_of("softmax", 2, DROPOUT))


def test_dropout_is_the_same_in_both_passes():
    """Beside one pass over all parts, without a loop or a second pass, with each part's own key."""
    config = config_of(microbatches=2, model=DROPOUT)
    state = new_state(config)
    key = jax.random.fold_in(state.key, 0)

    def loss(params):
        texts = packed(TOKENS, 2)

        def encode(i):
            rngs = {"dropout": jax.random.fold_in(key, i)}
            apply = functools.partial(CLIPpy(DROPOUT).apply, {"params": params}, train=True, rngs=rngs)
            part = jax.tree.map(lambda x: x[i::2], texts)
            return apply(IMAGES[i::2], method="encode_image")[1], apply(part, method="encode_packed_texts")

        image, text = (jnp.concatenate(parts) for parts in zip(*map(encode, range(2))))
        return contrastive_loss(image, text, params, config.loss, ONE_DEVICE)

    assert_same(dropout_on_one_device(), jax.jit(jax.value_and_grad(loss))(state.params))


@pytest.mark.parametrize("parameters", ["replicated", "fsdp"])
def test_eight_devices_draw_the_same_dropout_as_one(parameters):
    eight = gradient_of_step(config_of("ring", 2, DROPOUT), parameters)
    assert_same(eight, dropout_on_one_device())


def test_no_pair_leaves_its_device():
    mesh = make_mesh()

    def encode_images(params, images, key):
        return images.astype(jnp.float32).sum(axis=(1, 2))

    def encode_texts(params, texts, key):
        return texts.positions.reshape(-1, 1).astype(jnp.float32)  # a number for each text

    @jax.jit
    def both(images, texts):
        def in_parts(encode, inputs):
            return encode_in_microbatches(encode, 2, {}, inputs, jax.random.key(0), mesh)

        return in_parts(encode_images, images), in_parts(encode_texts, texts)

    def part(inputs, i):
        return jax.tree.map(lambda x: jnp.asarray(x[i::2]), inputs)

    texts = packed(TOKENS, 2)
    pairs = shard_batch((IMAGES, texts), mesh)
    moves = "all-gather|all-to-all|collective-permute|all-reduce"
    assert not re.search(moves, both.lower(*pairs).compile().as_text())
    for ours, encode, whole in zip(both(*pairs), (encode_images, encode_texts), (IMAGES, texts)):
        parts = [encode({}, part(whole, i), None) for i in range(2)]
        np.testing.assert_allclose(ours, np.stack(parts, axis=1).reshape(ours.shape), rtol=1e-6)
        assert ours.sharding.is_equivalent_to(pairs[0].sharding, ours.ndim)
