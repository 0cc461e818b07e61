"""What the step sends between eight devices, counted in the compiled program."""

import dataclasses
import functools

import jax
import pytest

from clippy_jax.mesh import make_mesh, replicated, shard_batch, state_sharding
from clippy_jax.models import attention, vit
from clippy_jax.training.optimizer import make_optimizer
from clippy_jax.training.state import init_state
from clippy_jax.training.step import make_train_step
from tests.models import configurations
from tests.training.tiny_run import batch, packed, tiny_config
from tools.benchmarks.collectives import collectives

MODEL = configurations.model(
    configurations.image_tower(patch_dropout=0.5), configurations.text_tower(dropout=0.1), rematerialise=True
)


@functools.cache
def bytes_sent(parameters, microbatches, pairs):
    """By each device, a step."""
    config = dataclasses.replace(tiny_config(MODEL), parameter_sharding=parameters, microbatches=microbatches)
    mesh, optimizer = make_mesh(), make_optimizer(config.optimizer, config.schedule)
    state = jax.eval_shape(lambda: init_state(MODEL, config.loss, 32, optimizer, (), jax.random.key(0)))
    where = state_sharding(state, mesh, parameters)
    state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, where)
    step = jax.jit(make_train_step(config, mesh), out_shardings=(where, replicated(mesh)))
    images, tokens = batch(pairs)
    program = step.lower(state, *shard_batch((images, packed(tokens, microbatches)), mesh)).compile().as_text()
    return sum(one.sent for one in collectives(program))


def test_microbatches_sum_up_their_gradients_before_they_send_them():
    assert bytes_sent("replicated", 4, 64) < 1.1 * bytes_sent("replicated", 1, 64)


@pytest.mark.parametrize("parameters, microbatches", [("replicated", 4), ("fsdp", 1)])
def test_more_pairs_send_little_more_than_their_embeddings(parameters, microbatches):
    few, many = (bytes_sent(parameters, microbatches, pairs) for pairs in (64, 256))
    # The texts go to all devices, and the gradients of all texts are summed up.
    embeddings = (256 - 64) * MODEL.text.embedding_width * 4 * (7 / 8 + 2 * 7 / 8)
    assert 0 < many - few < 1.5 * embeddings


def test_split_parameters_are_not_sent_more_often_where_cudnn_attends(monkeypatch):
    """Its queries, keys and values are products of their own, of parts of one kernel."""
    plain = bytes_sent("fsdp", 1, 64)
    monkeypatch.setattr(vit, "fused_attention_works", lambda *shape: True)
    attend = jax.nn.dot_product_attention
    called = []

    def kernel(*arrays, implementation, **options):
        called.append(implementation)
        return attend(*arrays, implementation="xla", **options)

    monkeypatch.setattr(attention.jax.nn, "dot_product_attention", kernel)
    assert bytes_sent.__wrapped__("fsdp", 1, 64) < 1.01 * plain
    assert "cudnn" in called
