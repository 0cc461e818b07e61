import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from clippy_jax.inference import label_maps, pamr, sliding_window
from clippy_jax.inference.background import Decision
from clippy_jax.inference.sliding_window import Side

NAMES, PATCH, WINDOW, STRIDE = 11, 8, 48, 20
FED, LABELS = (75, 110), (280, 150)  # of the 320 padded rows a strip needs a few rows as fed


def windows_and_sides() -> tuple[np.ndarray, tuple[Side, Side]]:
    """Scores of all windows side by side."""
    sides = tuple(Side.of(length, WINDOW, STRIDE, PATCH, False, "bilinear") for length in FED)
    shape = [side.count * side.patches for side in sides]
    return np.random.default_rng(0).normal(size=(*shape, NAMES)).astype(np.float32), sides


def whole_maps(scores: np.ndarray, sides: tuple[Side, Side], scale: float) -> np.ndarray:
    """Mean probabilities at the size of the labels, all at once, by PyTorch."""
    total, over = torch.zeros(NAMES, *FED).double(), torch.zeros(FED)
    for row, top in enumerate(np.asarray(sides[0].begins(FED[0]))):
        for column, left in enumerate(np.asarray(sides[1].begins(FED[1]))):
            rows, columns = (
                slice(index * side.patches, (index + 1) * side.patches) for index, side in zip((row, column), sides)
            )
            window = torch.tensor(scores[rows, columns]).permute(2, 0, 1)[None].double()
            pixels = functional.interpolate(window, (WINDOW, WINDOW), mode="bilinear", align_corners=False)[0]
            place = np.s_[..., top : top + WINDOW, left : left + WINDOW]
            total[place] += torch.softmax(scale * pixels, dim=0)
            over[place] += 1
    maps = functional.interpolate((total / over)[None], LABELS, mode="bilinear", align_corners=False)[0]
    return maps.permute(1, 2, 0).numpy()


def test_probabilities_in_strips_are_those_of_whole_maps():
    scores, sides = windows_and_sides()
    padded = tuple(map(label_maps.padded_length, LABELS))
    strips = sliding_window.probability_strips(jnp.asarray(scores), jnp.array(FED), sides, 3, jnp.array(LABELS), padded)
    ours = np.asarray(jax.jit(lambda: strips(lambda strip: strip, lambda scores: scores))())
    assert ours.shape == (*padded, NAMES)
    np.testing.assert_allclose(ours[: LABELS[0], : LABELS[1]], whole_maps(scores, sides, 3), atol=1e-5)


@pytest.mark.parametrize(
    "decision",
    [
        Decision.folding(NAMES, 7),
        Decision((0, *range(NAMES - 1)), 0.2, "probability", 4, at_most_best=True, smallest_share=0.12),
    ],
)
def test_refining_a_few_names_at_a_time_changes_no_label(decision, monkeypatch):
    """Also where the names are no multiple of those at a time."""
    random = np.random.default_rng(1)
    padded, size = (64, 128), jnp.array((50, 100))
    grid = random.normal(size=(7, 13, NAMES)).astype(np.float32)
    image = jnp.asarray(random.normal(size=(*padded, 3)), jnp.float32)
    strips = label_maps.stretched(grid, *label_maps.stretched_weights(size, padded, grid.shape[:2]))
    weights = pamr.affinities(image, size)

    def labels(at_once: int) -> np.ndarray:
        monkeypatch.setattr(label_maps, "NAMES_AT_ONCE", at_once)
        refine = lambda scores: pamr.refine(scores, weights, size, 2)  # noqa: E731
        return np.asarray(label_maps.refined_label_map(strips, refine, padded, size, decision))[:50, :100]

    whole = labels(NAMES)
    assert len(np.unique(whole)) > 3
    np.testing.assert_array_equal(labels(4), whole)
