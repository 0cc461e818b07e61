"""The operations counted in functions whose matrix products are known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from tools.benchmarks.matmul_flops import matmul_flops

A, B = jax.ShapeDtypeStruct((4, 8), jnp.float32), jax.ShapeDtypeStruct((8, 16), jnp.float32)
PRODUCT = 2 * 4 * 8 * 16


def test_a_product_and_its_gradient():
    assert matmul_flops(lambda a, b: a @ b, A, B) == PRODUCT
    assert matmul_flops(jax.grad(lambda a, b: jnp.sum((a @ b) ** 2), argnums=(0, 1)), A, B) == 3 * PRODUCT


def test_batched_products_jitted_and_checkpointed_functions():
    assert matmul_flops(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), *[jnp.ones((3, 5, 5))] * 2) == 2 * 3 * 5**3
    assert matmul_flops(jax.jit(jax.checkpoint(lambda a, b: a @ b)), A, B) == PRODUCT


def test_loops_count_as_often_as_they_run():
    square = jnp.ones((8, 8))

    def loop(x):
        return jax.lax.scan(lambda carry, _: (carry @ square, None), x, length=7)[0]

    assert matmul_flops(loop, A) == 7 * 2 * 4 * 8 * 8
    with pytest.raises(ValueError, match="unknown length"):
        matmul_flops(lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ square, x), A)


def test_what_each_device_computes_counts_for_all():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    rows, all_rows = PartitionSpec("data"), PartitionSpec()
    assert (
        matmul_flops(jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(rows, all_rows), out_specs=rows), A, B) == PRODUCT
    )


def test_of_two_branches_the_longer_one_counts():
    assert matmul_flops(lambda p, a, b: jax.lax.cond(p, lambda: a @ b, lambda: a @ (2 * b) @ b.T @ b), True, A, B) == (
        3 * PRODUCT
    )
