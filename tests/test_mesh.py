"""Eight devices beside one: the same loss and the same gradients, however the parameters lie."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from clippy_jax.errors import InputError
from clippy_jax.mesh import (
    batch_sharding,
    check_batch_size,
    make_mesh,
    move_whole,
    replicated,
    shard_batch,
    state_sharding,
)
from clippy_jax.training.optimizer import make_optimizer
from clippy_jax.training.state import init_state
from clippy_jax.training.step import make_train_step
from tests.models import configurations
from tests.models.torch_twin import relative_errors
from tests.training.tiny_run import batch, packed, tiny_config

# With dropout and patch dropout: every number of devices must draw the same masks.
MODEL = configurations.model(configurations.image_tower(patch_dropout=0.5), configurations.text_tower(dropout=0.1))
CONFIG = tiny_config(MODEL)
IMAGES, TOKENS = batch(16)
BATCH = IMAGES, packed(TOKENS)


def state_on(key=0):
    optimizer = make_optimizer(CONFIG.optimizer, CONFIG.schedule)
    return jax.jit(lambda key: init_state(MODEL, CONFIG.loss, 32, optimizer, (), key))(jax.random.key(key))


def loss_and_gradient(state, images, texts, parameters="replicated", **shardings):
    """Of the training step itself: after the first update, Adam's first moment is (1 - beta1) times the gradient."""
    config = dataclasses.replace(CONFIG, parameter_sharding=parameters)
    after, metrics = jax.jit(make_train_step(config, make_mesh()), **shardings)(state, images, texts)
    first_moment = jax.device_get(after.optimizer_state[0].mu)
    return float(metrics["loss"]), jax.tree.map(lambda m: m / (1 - CONFIG.optimizer.beta1), first_moment), after


@pytest.fixture(scope="module")
def on_one_device():
    return loss_and_gradient(state_on(), *BATCH)


@pytest.mark.parametrize("parameters", ["replicated", "fsdp"])
def test_eight_devices_equal_one(on_one_device, parameters):
    mesh = make_mesh()
    assert mesh.size == 8
    state = state_on()
    where = state_sharding(state, mesh, parameters)
    loss, gradient, after = loss_and_gradient(
        jax.device_put(state, where),
        *shard_batch(BATCH, mesh),
        parameters,
        out_shardings=(where, replicated(mesh)),
    )
    np.testing.assert_allclose(loss, on_one_device[0], rtol=1e-5)
    errors = relative_errors(gradient, on_one_device[1])
    assert max(errors.values()) <= 1e-5, {name: error for name, error in errors.items() if error > 1e-5}
    kept = jax.tree.map(lambda leaf, sharding: leaf.sharding.is_equivalent_to(sharding, leaf.ndim), after, where)
    assert all(jax.tree.leaves(kept))


def test_fsdp_splits_the_first_fitting_dimension_but_never_the_layers():
    mesh = make_mesh()
    model = configurations.model(configurations.image_tower(depth=4096))
    state = jax.eval_shape(
        lambda: init_state(
            model, CONFIG.loss, 32, make_optimizer(CONFIG.optimizer, CONFIG.schedule), (), jax.random.key(0)
        )
    )
    where = state_sharding(state, mesh, "fsdp")
    blocks = where.params["image"]["blocks"]
    assert blocks["mlp_in"]["kernel"].spec == PartitionSpec(None, "data")  # [4096, 48, 96]
    assert blocks["mlp_out"]["kernel"].spec == PartitionSpec(None, "data")  # [4096, 96, 48]
    assert blocks["norm1"]["scale"].spec == PartitionSpec(None, "data")  # [4096, 48]
    assert where.params["text"]["token_embedding"]["embedding"].spec == PartitionSpec(None, "data")  # [100, 32]
    for alone in (where.params["logit_scale"], where.step, where.key):
        assert alone.spec == PartitionSpec()
    moments = where.optimizer_state[0].mu
    assert jax.tree.map(lambda s: s.spec, moments) == jax.tree.map(lambda s: s.spec, where.params)


def test_fsdp_state_of_full_size_takes_an_eighth_of_the_memory_per_device():
    mesh = make_mesh()
    model = configurations.model(configurations.image_tower("B/16"), configurations.text_tower("base"))
    state = jax.eval_shape(
        lambda: init_state(
            model, CONFIG.loss, 224, make_optimizer(CONFIG.optimizer, CONFIG.schedule), (), jax.random.key(0)
        )
    )
    where = state_sharding(state, mesh, "fsdp")
    sizes = jax.tree.map(
        lambda leaf, s: (leaf.size, int(np.prod(s.shard_shape(leaf.shape)))), state.params, where.params
    )
    pairs = jax.tree.leaves(sizes, is_leaf=lambda node: isinstance(node, tuple))
    assert sum(shard for _, shard in pairs) < 0.126 * sum(size for size, _ in pairs)


def test_batch_is_split_in_order():
    mesh = make_mesh()
    images = shard_batch(BATCH[0], mesh)
    assert images.sharding == batch_sharding(mesh)
    for i, shard in enumerate(sorted(images.addressable_shards, key=lambda shard: shard.index[0].start)):
        np.testing.assert_array_equal(shard.data, BATCH[0][2 * i : 2 * i + 2])


def test_arrays_that_move_to_the_devices_leave_the_host():
    tree = {"blocks": {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3)}, "scale": np.float32(2)}
    moved = move_whole(tree, make_mesh())
    assert tree == {}
    assert moved["scale"] == 2
    parts = moved["blocks"]["kernel"].addressable_shards
    assert len(parts) == len(jax.devices())
    for part in parts:
        np.testing.assert_array_equal(part.data, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("size", [0, -8, 12, 1])
def test_batch_that_devices_do_not_divide_is_refused(size):
    with pytest.raises(InputError, match=rf"config.input.batch_size is {size}[,;] .*multiple of 8"):
        check_batch_size(size, make_mesh(), "config.input.batch_size")
    check_batch_size(16, make_mesh(), "config.input.batch_size")


def test_batch_that_microbatches_or_packs_do_not_divide_is_refused():
    with pytest.raises(InputError, match="is 24, which 8 devices with 2 microbatches each do not divide; .* of 16"):
        check_batch_size(24, make_mesh(), "config.input.batch_size", microbatches=2)
    with pytest.raises(InputError, match="8 devices with 2 microbatches each, in packs of 4 texts, do not .* of 64"):
        check_batch_size(32, make_mesh(), "config.input.batch_size", microbatches=2, texts_per_pack=4)
    check_batch_size(48, make_mesh(), "config.input.batch_size", microbatches=3)
    check_batch_size(64, make_mesh(), "config.input.batch_size", microbatches=2, texts_per_pack=4)
