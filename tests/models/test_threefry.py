"""Dropout's answers beside JAX's own hash."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

from clippy_jax.models import threefry


def below(limit, key, shape):
    return jax.jit(lambda key: threefry.unpacked(threefry.below(limit, key, shape), shape[-1]))(key)


@pytest.mark.parametrize(
    "backend, shape",
    [
        *(("cpu", shape) for shape in [(1,), (7,), (3, 5), (2, 3, 4, 6), (2, 12, 77, 77)]),
        ("gpu", (7,)),
        ("gpu", (2, 3, 8)),
    ],
)
def test_answers_are_those_of_jaxs_hash(backend, shape, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    key, limit = jax.random.fold_in(jax.random.key(3), 4), 40_000
    *others, width = shape
    quarter = (*others, -(-width // 4))
    index = jnp.arange(np.prod(quarter), dtype=jnp.uint32)
    words = threefry_2x32(jax.random.key_data(key), jnp.concatenate([jnp.zeros_like(index), index]))
    words = np.asarray(words).reshape(2, *quarter)
    numbers = np.concatenate([words[0] & 0xFFFF, words[0] >> 16, words[1] & 0xFFFF, words[1] >> 16], axis=-1)
    np.testing.assert_array_equal(below(limit, key, shape), numbers[..., :width] < limit)


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("shape", [(4096, 32), (3000, 5, 7)])
def test_one_number_in_so_many_is_below_a_limit(kind, shape):
    key, limit = jax.random.key(3, impl=kind), round(2**16 * 0.9)
    mask = np.asarray(below(limit, key, shape))
    assert mask.shape == shape and abs(mask.mean() - 0.9) < 4 * 0.3 / mask.size**0.5
    assert not below(0, key, shape).any() and below(2**16, key, shape).all()


def test_more_indices_than_32_bits_hold_are_left_to_jax():
    program = jax.make_jaxpr(lambda key: threefry.below(9, key, (2**20, 2**14)))(jax.random.key(0))
    assert "random_bits" in str(program)
