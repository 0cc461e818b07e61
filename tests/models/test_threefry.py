"""Our random numbers beside JAX's own."""

import jax
import numpy as np
import pytest

from clippy_jax.models import threefry


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4, 5), (8, 12, 77, 77)])
def test_numbers_are_jaxs(shape):
    key = jax.random.fold_in(jax.random.key(3), 4)
    ours = jax.jit(threefry.uniform, static_argnums=1)(key, shape)
    np.testing.assert_array_equal(ours, jax.random.uniform(key, shape))
    assert ours.dtype == np.float32


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_keys_of_other_generators_give_their_numbers(kind):
    key = jax.random.key(3, impl=kind)
    np.testing.assert_array_equal(threefry.uniform(key, (2, 3)), jax.random.uniform(key, (2, 3)))


def test_arrays_of_more_than_32_bits_of_indices_are_left_to_jax():
    program = jax.make_jaxpr(lambda key: threefry.uniform(key, (2**20, 2**12)))(jax.random.key(0))
    assert "random_bits" in str(program)
