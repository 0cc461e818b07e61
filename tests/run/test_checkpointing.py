import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from clippy_jax.config import CheckpointConfig
from clippy_jax.errors import InputError
from clippy_jax.mesh import make_mesh
from clippy_jax.run.checkpointing import Checkpointer, restore_arrays
from clippy_jax.training.state import TrainState

NEVER = CheckpointConfig(every_steps=0, every_minutes=0.0, keep=3, keep_every_steps=0)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


def make_state(step=0, width=16):
    """A state in which no two arrays are alike and no moment is zero."""
    params = {
        "image": {"blocks": {"kernel": jnp.zeros((3, 8, width)), "bias": jnp.zeros((3, width))}},
        "text": {"embedding": jnp.zeros((32, 8), jnp.bfloat16)},
        "logit_scale": jnp.zeros(()),
    }
    leaves, structure = jax.tree.flatten((params, OPTIMIZER.init(params)))
    rng = np.random.default_rng(step)
    leaves = [jnp.asarray(rng.normal(size=leaf.shape) * 7, leaf.dtype) for leaf in leaves]
    params, optimizer_state = jax.tree.unflatten(structure, leaves)
    return TrainState(jnp.asarray(step, jnp.int32), params, optimizer_state, jax.random.key(step))


def shardings(state, how):
    mesh = make_mesh()
    assert mesh.size == 8

    def one(leaf):
        if how == "one device":
            return SingleDeviceSharding(jax.devices()[0])
        split = how == "fsdp" and leaf.ndim > 1
        return NamedSharding(mesh, PartitionSpec(*[None] * (leaf.ndim - 1), "data") if split else PartitionSpec())

    return jax.tree.map(one, state)


def place(state, how):
    return jax.tree.map(jax.device_put, state, shardings(state, how))


def abstract(state, how):
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        shardings(state, how),
    )


def as_bytes(state):
    state = dataclasses.replace(state, key=jax.random.key_data(state.key))
    return jax.tree.map(lambda leaf: (str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()), state)


def steps_in(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


@pytest.mark.parametrize("saved_on", ["one device", "replicated", "fsdp"])
@pytest.mark.parametrize("restored_on", ["one device", "replicated", "fsdp"])
def test_round_trip_is_bit_exact_between_any_two_placements(tmp_path, saved_on, restored_on):
    state = make_state(step=7)
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        checkpointer.save(7, place(state, saved_on))
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        assert checkpointer.latest_step() == 7
        restored = checkpointer.restore(abstract(state, restored_on))
    assert as_bytes(restored) == as_bytes(state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    wanted = shardings(state, restored_on)
    assert all(
        leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
        for leaf, sharding in zip(jax.tree.leaves(restored), jax.tree.leaves(wanted))
    )
    np.testing.assert_array_equal(jax.random.normal(restored.key, (3,)), jax.random.normal(state.key, (3,)))


def test_state_may_be_donated_while_it_is_still_being_written(tmp_path):
    state = place({"params": {"kernel": jax.random.normal(jax.random.key(0), (8, 256, 1024))}}, "replicated")
    expected = np.array(state["params"]["kernel"])
    overwrite = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 - 1, state), donate_argnums=0)
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        checkpointer.save(1, state)
        for _ in range(5):
            state = overwrite(state)
        jax.block_until_ready(state)
    np.testing.assert_array_equal(restore_arrays(tmp_path, ("params",))[0]["kernel"], expected)


def test_saves_by_steps_and_keeps_the_newest_and_the_multiples(tmp_path):
    config = CheckpointConfig(every_steps=2, every_minutes=0.0, keep=2, keep_every_steps=6)
    with Checkpointer(tmp_path, config, clock_every_steps=1) as checkpointer:
        saved = [step for step in range(1, 17) if checkpointer.is_due(step)]
        for step in saved:
            assert checkpointer.save(step, make_state(step))
        assert checkpointer.save(17, make_state(17))
        assert not checkpointer.save(17, make_state(17))
    assert saved == [2, 4, 6, 8, 10, 12, 14, 16]
    assert steps_in(tmp_path) == [6, 12, 16, 17]
    with Checkpointer(tmp_path, config, clock_every_steps=1) as checkpointer:
        assert int(checkpointer.restore(abstract(make_state(), "replicated")).step) == 17
    with Checkpointer(tmp_path, config, clock_every_steps=1, read_before=13) as checkpointer:
        old = checkpointer.restore(abstract(make_state(), "replicated"))
    assert as_bytes(old) == as_bytes(make_state(12))


def test_saves_by_the_clock_since_the_last_save_at_steps_where_it_is_looked_at(tmp_path):
    config = CheckpointConfig(every_steps=25, every_minutes=10.0, keep=100, keep_every_steps=0)
    seconds = 1000.0
    with Checkpointer(tmp_path, config, clock_every_steps=5, clock=lambda: seconds) as checkpointer:
        for step in range(1, 46):
            seconds += 50.0  # ten minutes are 12 steps
            if checkpointer.is_due(step):
                checkpointer.save(step, make_state(step))
    # 15: the first look after ten minutes; 25: by steps; 40: ten minutes after 25 are over at step 37.
    assert steps_in(tmp_path) == [15, 25, 40]


def test_half_written_checkpoint_is_not_read_and_is_cleaned_up(tmp_path):
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        checkpointer.save(20, make_state(20))
        checkpointer.save(40, make_state(40))
    checkpoints = tmp_path / "checkpoints"
    half_written = checkpoints / "40.orbax-checkpoint-tmp"
    (checkpoints / "40").rename(half_written)
    shutil.rmtree(half_written / "state" / "d")
    (half_written / "commit_success.txt").unlink()

    np.testing.assert_array_equal(
        restore_arrays(tmp_path, ("params",))[0]["logit_scale"], make_state(20).params["logit_scale"]
    )
    assert half_written.exists()  # a reader leaves it alone: it may belong to a run in progress
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        assert checkpointer.latest_step() == 20
        assert int(checkpointer.restore(abstract(make_state(), "replicated")).step) == 20
        assert checkpointer.save(40, make_state(40))
    assert steps_in(tmp_path) == [20, 40]


def test_save_ends_up_complete_when_an_exception_ends_the_training(tmp_path):
    with pytest.raises(FloatingPointError), Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        checkpointer.save(5, make_state(5))
        raise FloatingPointError("loss is nan")
    assert as_bytes_of_params(restore_arrays(tmp_path, ("params",))[0]) == as_bytes_of_params(make_state(5).params)


def as_bytes_of_params(params):
    return jax.tree.map(lambda leaf: (str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()), params)


def test_parameters_alone_come_back_as_numpy_with_their_types(tmp_path):
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        checkpointer.save(1, place(make_state(1), "fsdp"))
        checkpointer.save(2, place(make_state(2), "fsdp"))
    newest = restore_arrays(tmp_path, ("params",))[0]
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(newest))
    assert as_bytes_of_params(newest) == as_bytes_of_params(make_state(2).params)
    assert as_bytes_of_params(restore_arrays(tmp_path, ("params",), step=1)[0]) == as_bytes_of_params(
        make_state(1).params
    )


def test_checkpoint_of_another_model_is_one_clear_line(tmp_path):
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        checkpointer.save(3, make_state(3))
        with pytest.raises(InputError) as error:
            checkpointer.restore(abstract(make_state(width=24), "one device"))
    assert str(error.value) == (
        f"{tmp_path}/checkpoints/3 is of another model: "
        "params/image/blocks/bias is float32[3, 16] there and float32[3, 24] here, "
        "params/image/blocks/kernel is float32[3, 8, 16] there and float32[3, 8, 24] here, "
        "optimizer_state/1/0/mu/image/blocks/bias is float32[3, 16] there and float32[3, 24] here, and 3 more; "
        "use another --workdir or the configuration that it was made with"
    )


def test_checkpoint_with_other_names_is_one_clear_line(tmp_path):
    state = make_state(3)
    renamed = dataclasses.replace(state, params={**state.params, "projection": jnp.zeros((2, 2))})
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        checkpointer.save(3, state)
        with pytest.raises(InputError, match="another model: params/projection is only here; use another --workdir"):
            checkpointer.restore(abstract(renamed, "one device"))


def test_checkpoint_of_another_optimizer_is_one_clear_line(tmp_path):
    state = make_state(3)
    frozen = dataclasses.replace(state, optimizer_state=OPTIMIZER.init({"text": state.params["text"]}))
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        checkpointer.save(3, state)
        with pytest.raises(InputError, match="another optimizer: optimizer_state/1/0/mu/image/blocks/bias is only th"):
            checkpointer.restore(abstract(frozen, "one device"))


def test_missing_checkpoints_are_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}/checkpoints has no complete checkpoint"):
        restore_arrays(tmp_path, ("params",))[0]
    assert not (tmp_path / "checkpoints").exists()
    with Checkpointer(tmp_path, NEVER, clock_every_steps=1) as checkpointer:
        assert checkpointer.latest_step() is None
        checkpointer.save(3, make_state(3))
    with pytest.raises(InputError, match=r"has no checkpoint of step 4; there are \[3\]"):
        restore_arrays(tmp_path, ("params",), step=4)
