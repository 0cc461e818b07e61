"""The training step: metrics, clamp, keys, freezing, donation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from clippy_jax.config import ScheduleConfig
from clippy_jax.input_pipeline.text_packing import fill_rows, find_packing
from clippy_jax.mesh import make_mesh
from clippy_jax.models.clippy import CLIPpy
from clippy_jax.run.sound_checkpoints import find_not_finite
from clippy_jax.training.losses.softmax import softmax_contrastive_loss
from clippy_jax.training.optimizer import make_optimizer
from clippy_jax.training.state import init_state
from clippy_jax.training.step import make_train_step
from tests.models import configurations
from tests.training.tiny_run import batch, packed, tiny_config

IMAGES, TOKENS = batch()
TEXTS = packed(TOKENS)
MODEL = configurations.model(configurations.image_tower(patch_dropout=0.5), configurations.text_tower(dropout=0.1))
CONFIG = tiny_config(MODEL, ScheduleConfig(peak_learning_rate=2e-3, warmup_steps=4, decay_steps=100, stop_step=5))


@functools.cache
def initialiser(model, loss, optimizer, schedule):
    make = functools.partial(init_state, model, loss, 32, make_optimizer(optimizer, schedule), optimizer.freeze)
    return jax.jit(make)


def new_state(config, seed=0):
    return initialiser(config.model, config.loss, config.optimizer, config.schedule)(jax.random.key(seed))


@pytest.fixture(scope="module")
def train_step():
    """The step as training runs it: it takes its state's memory."""
    return jax.jit(make_train_step(CONFIG, make_mesh()), donate_argnums=0)


def test_metrics_are_of_this_step(train_step):
    state = new_state(CONFIG)
    rngs = {"dropout": jax.random.fold_in(state.key, 0)}

    @jax.jit
    def encode(params):
        apply = functools.partial(CLIPpy(MODEL).apply, {"params": params}, train=True, rngs=rngs)
        return apply(IMAGES, method="encode_image")[1], apply(TEXTS, method="encode_packed_texts")

    embeddings = *encode(state.params), jnp.copy(state.params["logit_scale"])
    after, metrics = train_step(state, IMAGES, TEXTS)
    assert set(metrics) == {"loss", "logit_scale", "learning_rate", "gradient_norm"}
    assert after.step == 1
    np.testing.assert_allclose(metrics["loss"], softmax_contrastive_loss(*embeddings, "mean"), rtol=1e-5)
    np.testing.assert_allclose(metrics["learning_rate"], 5e-4, rtol=1e-6)
    np.testing.assert_allclose(metrics["logit_scale"], np.exp(after.params["logit_scale"]), rtol=1e-6)
    first_moments = jax.tree.leaves(after.optimizer_state[0].mu)  # (1 - beta1) times the gradient
    norm = sum(float((np.asarray(moment) ** 2).sum()) for moment in first_moments) ** 0.5 / (1 - 0.9)
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-5)


def test_learns_a_batch_by_heart(train_step):
    state, losses = new_state(CONFIG), []
    for _ in range(30):
        state, metrics = train_step(state, IMAGES, TEXTS)
        losses.append(float(metrics["loss"]))
    assert state.step == 30
    assert np.mean(losses[-3:]) < 0.5 * losses[0]


def test_state_is_donated(train_step):
    state = new_state(CONFIG)
    after, _ = train_step(state, IMAGES, TEXTS)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.optimizer_state)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))


@pytest.mark.parametrize("start, end", [(5.0, np.log(100)), (-1.0, 0.0)])
def test_logit_scale_is_clamped(train_step, start, end):
    state = new_state(CONFIG)
    state.params["logit_scale"] = jnp.float32(start)
    after, metrics = train_step(state, IMAGES, TEXTS)
    np.testing.assert_allclose(after.params["logit_scale"], end, rtol=1e-6)
    np.testing.assert_allclose(metrics["logit_scale"], np.exp(end), rtol=1e-5)


def test_dropout_follows_the_runs_key_and_the_step(train_step):
    def loss(**changes):
        return float(train_step(new_state(CONFIG).replace(**changes), IMAGES, TEXTS)[1]["loss"])

    assert loss() == loss()
    assert loss() != loss(step=jnp.int32(1))
    assert loss() != loss(key=jax.random.key(7))


def test_key_of_the_run_never_changes(train_step):
    before = jax.random.key_data(new_state(CONFIG).key).tolist()
    after, _ = train_step(new_state(CONFIG), IMAGES, TEXTS)
    assert jax.random.key_data(after.key).tolist() == before


@pytest.mark.parametrize("microbatches", [1, 2])
def test_a_frozen_tower_is_encoded_once_and_keeps_nothing(microbatches):
    """A step costs one forward pass of it (and the small text tower's), and none of the memory of the way back."""
    model = configurations.model()
    one_device = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    images = jax.ShapeDtypeStruct((64, 96, 96, 3), np.uint8)

    def compiled(freeze):
        config = dataclasses.replace(tiny_config(model, freeze=freeze), microbatches=microbatches)
        step = jax.jit(make_train_step(config, one_device))
        return step.lower(new_state(config), images, packed(batch(64)[1], microbatches)).compile()

    def forward(params, images):
        return CLIPpy(model).apply({"params": params}, images, method="encode_image")[1]

    trained, frozen = compiled(()), compiled(("image",))
    once = jax.jit(forward).lower(new_state(tiny_config(model)).params, images).compile()
    flops = [step.cost_analysis()["flops"] for step in (trained, frozen, once)]
    # Of a loop over microbatches, one turn is counted.
    assert flops[1] <= 1.2 * flops[2] / microbatches < 0.6 * flops[0]
    memory = [step.memory_analysis().temp_size_in_bytes for step in (trained, frozen)]
    assert memory[1] <= 0.6 * memory[0]


@pytest.mark.parametrize("frozen, trained", [("image", "text"), ("text", "image")])
def test_a_frozen_tower_stays_bit_for_bit(frozen, trained):
    config = tiny_config(freeze=(frozen,))
    state = new_state(config)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state.optimizer_state)]
    assert any(f"'{trained}'" in path for path in paths) and not any(f"'{frozen}'" in path for path in paths)
    step, after = jax.jit(make_train_step(config, make_mesh())), state
    for _ in range(2):
        after, _ = step(after, IMAGES, TEXTS)
    jax.tree.map(np.testing.assert_array_equal, after.params[frozen], state.params[frozen])
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params[trained], state.params[trained])
    assert all(jax.tree.leaves(moved)), moved


def test_an_update_that_is_not_finite_is_left_out_and_any_other_is_the_same(train_step):
    config = dataclasses.replace(CONFIG, skip_nonfinite_updates=3)
    skipping = jax.jit(make_train_step(config, make_mesh()))
    plain, same = train_step(new_state(CONFIG), IMAGES, TEXTS), skipping(new_state(CONFIG), IMAGES, TEXTS)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(plain[1]), jax.device_get(same[1]))
    jax.tree.map(np.testing.assert_array_equal, *(jax.device_get(state.replace(key=())) for state, _ in (plain, same)))

    state = same[0]
    state.params["image"]["norm"]["scale"] *= 3e38  # finite, but its products are not
    after, metrics = skipping(state, IMAGES, TEXTS)
    assert not np.isfinite(metrics["loss"]) and np.isclose(metrics["learning_rate"], 1e-3)
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
    jax.tree.map(np.testing.assert_array_equal, after.optimizer_state[0], state.optimizer_state[0])
    counts = [leaf for leaf in jax.tree.leaves(after.optimizer_state[1:]) if leaf.ndim == 0]
    assert after.step == 2 and counts == [2]  # the learning rate stays a function of the step


BLACK, NO_WORDS = np.zeros_like(IMAGES), np.zeros_like(TOKENS)
NO_WORDS[:, 0] = 1  # the end of a text without words


@pytest.mark.parametrize("pairs", [8, 1])
def test_pairs_without_anything_to_learn_from_are_finite(pairs):
    """Identical captions, black images, captions without words; also where a pair is the whole batch."""
    mesh = jax.make_mesh((pairs,), ("data",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:pairs])
    step = jax.jit(make_train_step(CONFIG, mesh))
    same = np.repeat(TOKENS[:1], len(TOKENS), axis=0)
    for images, tokens in ((IMAGES, same), (BLACK, TOKENS), (IMAGES, NO_WORDS), (BLACK, NO_WORDS)):
        packing = find_packing(tokens[:pairs], min(2, pairs), 1)
        state, metrics = step(new_state(CONFIG), images[:pairs], fill_rows(packing, min(2, pairs)))
        assert all(np.isfinite(value) for value in metrics.values()), metrics
        assert not find_not_finite(state)
