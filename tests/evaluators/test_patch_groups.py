import numpy as np
import pytest
import sklearn.decomposition
import torch

from clippy_jax.evaluators import patch_groups


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def separate(grid: tuple[int, int], features: int) -> np.ndarray:
    """Patches whose principal components are far from equally large, so that rounding cannot mix them."""
    random = np.random.default_rng(features)
    return unit(random.normal(size=(*grid, features)) * 0.6 ** np.arange(features) + 0.5)


def reference(patches: np.ndarray) -> np.ndarray:
    """By scikit-learn; the patch farthest out along a component is on its positive side."""
    rows = patches.reshape(-1, patches.shape[-1]).astype(np.float64)
    scores = sklearn.decomposition.PCA(min(8, *rows.shape)).fit_transform(rows)
    scores *= np.sign(scores[np.abs(scores).argmax(axis=0), np.arange(scores.shape[1])])
    return (scores / np.linalg.norm(rows - rows.mean(axis=0), axis=1, keepdims=True)).reshape(*patches.shape[:2], -1)


@pytest.mark.parametrize("grid, features", [((14, 19), 24), ((4, 5), 96), ((2, 3), 40), ((12, 12), 5)])
def test_equals_scikit_learn(grid, features):
    patches = separate(grid, features)
    expected = reference(patches)
    if np.prod(grid) <= features:  # as many patches have one component less than there are of them
        expected[..., grid[0] * grid[1] - 1 :] = 0
    ours = patch_groups.centre_similarities(patches)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_patches_of_one_kind_are_one_group_and_of_two_kinds_two():
    one, other = unit(np.random.default_rng(0).normal(size=(2, 32)))
    patches = np.broadcast_to(one, (7, 9, 32)).copy()
    np.testing.assert_array_equal(patch_groups.centre_similarities(patches), np.zeros((7, 9, 8)))
    patches[2:4, 3:6] = other
    group = patch_groups.centre_similarities(patches).argmax(-1)
    expected = np.ones((7, 9))
    expected[2:4, 3:6] = 0  # fewer, so farther from the mean
    np.testing.assert_array_equal(group, expected)


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
    ours = patch_groups.attention_masks(attention.numpy(), mass)
    np.testing.assert_array_equal(ours, dino_masks(attention, mass))


def test_by_hand():
    attention = np.array([[[0.05, 0.3], [0.25, 0.1]], [[0.0, 0.0], [0.02, 0.0]]], np.float32)
    # 0.3 + 0.25 of 0.7 is the first to reach 60 %; the second head looks at one patch only.
    expected = [[[False, True], [True, False]], [[False, False], [True, False]]]
    np.testing.assert_array_equal(patch_groups.attention_masks(attention), expected)
