"""The train state before the first step."""

import jax
import jax.numpy as jnp
import numpy as np

from clippy_jax.training.optimizer import make_optimizer
from clippy_jax.training.state import init_params, init_state
from tests.models import configurations
from tests.models.torch_twin import params_of, random_twin
from tests.training.tiny_run import tiny_config


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)


def test_initial_state():
    config = tiny_config()
    optimizer = make_optimizer(config.optimizer, config.schedule)
    state = jax.jit(lambda key: init_state(config.model, config.loss, 32, optimizer, (), key))(jax.random.key(3))
    assert state.step == 0 and state.step.dtype == jnp.int32
    assert jnp.issubdtype(state.key.dtype, jax.dtypes.prng_key)
    assert shapes(state.params) == shapes(params_of(random_twin(config.model)))
    np.testing.assert_allclose(state.params["logit_scale"], np.log(1 / 0.07), rtol=1e-6)
    moments = jax.tree.leaves(optimizer.init(state.params))
    assert all(not np.any(leaf) for leaf in moments)
    assert len(moments) >= 2 * len(jax.tree.leaves(state.params))


def test_layers_start_from_different_values_and_seeds_decide():
    params = jax.jit(init_params, static_argnums=(0, 1))(configurations.model(), 32, jax.random.key(0))
    again = jax.jit(init_params, static_argnums=(0, 1))(configurations.model(), 32, jax.random.key(0))
    other = jax.jit(init_params, static_argnums=(0, 1))(configurations.model(), 32, jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, params, again)
    for tower, kernel in (("image", "qkv"), ("text", "query")):
        stacked = np.asarray(params[tower]["blocks"][kernel]["kernel"])
        assert not np.array_equal(stacked[0], stacked[1])
        assert not np.array_equal(stacked, other[tower]["blocks"][kernel]["kernel"])
