import numpy as np
import pytest
import torch

from clippy_jax.evaluators import attention_masks


def dino_masks(attention: torch.Tensor, mass: float) -> np.ndarray:
    """As DINO's text has it: the patches that are left once the least attended, 1 - mass together, are gone."""
    heads = attention.reshape(len(attention), -1).double()
    values, order = heads.sort(dim=1)
    kept = (values / values.sum(dim=1, keepdim=True)).cumsum(dim=1) > 1 - mass
    return torch.zeros_like(kept).scatter(1, order, kept).reshape(attention.shape).numpy()


@pytest.mark.parametrize("grid", [(4, 4), (14, 19), (1, 1)])
@pytest.mark.parametrize("mass", [0.6, 0.9])
def test_equals_dinos_rule(grid, mass):
    attention = torch.tensor(np.random.default_rng(1).exponential(size=(6, *grid)).astype(np.float32))
    ours = attention_masks.attention_masks(attention.numpy(), mass)
    np.testing.assert_array_equal(ours, dino_masks(attention, mass))


def test_by_hand():
    attention = np.array([[[0.05, 0.3], [0.25, 0.1]], [[0.0, 0.0], [0.02, 0.0]]], np.float32)
    # 0.3 + 0.25 of 0.7 is the first to reach 60 %; the second head looks at one patch only.
    expected = [[[False, True], [True, False]], [[False, False], [True, False]]]
    np.testing.assert_array_equal(attention_masks.attention_masks(attention), expected)
