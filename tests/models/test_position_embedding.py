"""The position embedding at other grids, beside PyTorch's own interpolation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from clippy_jax.models.position_embedding import resize_position_embedding
from tests.models.transformers_clippy import interpolated_positions

TABLE = np.random.default_rng(0).normal(size=(1, 1 + 14 * 14, 8)).astype(np.float32)
GRIDS = [(14, 14), (28, 28), (6, 6), (21, 28), (28, 21), (14, 20), (9, 14), (1, 3), (37, 5), (64, 64)]


@pytest.mark.parametrize("interpolation", ["dino", "plain", "antialias"])
@pytest.mark.parametrize("grid", GRIDS)
def test_equals_torch_interpolate(grid, interpolation):
    ours = resize_position_embedding(jnp.asarray(TABLE), grid, interpolation)
    theirs = interpolated_positions(torch.tensor(TABLE), grid, interpolation).numpy()
    # PyTorch computes sampling positions in float32, we in float64: up to 1e-5 of a cell at the end of a large grid.
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("interpolation", ["dino", "plain", "antialias"])
def test_equals_torch_interpolate_in_float64(interpolation):
    with jax.enable_x64(True):
        for grid in GRIDS:
            ours = resize_position_embedding(jnp.asarray(TABLE, jnp.float64), grid, interpolation)
            theirs = interpolated_positions(torch.tensor(TABLE).double(), grid, interpolation).numpy()
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_gradient_equals_torch():
    weight = np.random.default_rng(1).normal(size=(1, 1 + 6 * 20, 8)).astype(np.float32)
    ours = jax.grad(lambda table: (resize_position_embedding(table, (6, 20), "dino") * weight).sum())(
        jnp.asarray(TABLE)
    )
    table = torch.tensor(TABLE, requires_grad=True)
    (interpolated_positions(table, (6, 20), "dino") * torch.tensor(weight)).sum().backward()
    np.testing.assert_allclose(ours, table.grad.numpy(), atol=1e-5)


def test_own_grid_is_the_table_itself():
    np.testing.assert_array_equal(resize_position_embedding(jnp.asarray(TABLE), (14, 14), "dino"), TABLE)


def test_rows_and_columns_are_not_exchanged():
    """A table that varies along columns alone must still do so on a wide grid (the public notebook transposes it)."""
    columns = np.broadcast_to(np.arange(14, dtype=np.float32), (14, 14)).reshape(1, 196, 1)
    table = np.concatenate([np.zeros((1, 1, 1), np.float32), columns], axis=1)
    resized = np.asarray(resize_position_embedding(jnp.asarray(table), (21, 28), "dino"))[0, 1:].reshape(21, 28)
    np.testing.assert_allclose(resized, np.broadcast_to(resized[:1], (21, 28)), atol=1e-5)
    assert resized[0, -1] - resized[0, 0] > 12


def test_modes_differ_off_the_trained_grid():
    for grid, modes in (((28, 28), ("dino", "plain")), ((6, 6), ("plain", "antialias"))):
        one, other = (resize_position_embedding(jnp.asarray(TABLE), grid, mode) for mode in modes)
        assert float(jnp.abs(one - other).max()) > 1e-3
