import numpy as np
import pytest

from clippy_jax.shapes.backgrounds import PLACES
from clippy_jax.shapes.drawing import centred_grid, hexagons
from clippy_jax.shapes.objects import BORROWED_PLUMAGE, OBJECTS, UNFAMILIAR


@pytest.mark.parametrize("name", OBJECTS)
def test_outline_stays_within_its_circle_and_fills_some_of_it(name):
    object_class = OBJECTS[name]
    x, y = centred_grid(64, 1.1 * object_class.reach)
    for seed in range(20):
        look = object_class.draw(x, y, np.random.default_rng(seed))
        inside = look.depth > 0
        assert np.hypot(x, y)[inside].max() <= object_class.reach
        assert inside.sum() > 0.2 * (np.hypot(x, y) <= object_class.reach).sum()
        assert look.depth.dtype == look.colours.dtype == np.float32
        assert look.colours.shape == (3, 64, 64)
        assert look.colours.min() >= 0 and look.colours.max() <= 1


@pytest.mark.parametrize("name", OBJECTS)
def test_looks_vary_within_a_class(name):
    x, y = centred_grid(32, 1)
    first, second = (OBJECTS[name].draw(x, y, np.random.default_rng(seed)).colours for seed in (0, 1))
    assert np.abs(first - second).mean() > 0.005


def test_every_class_owns_the_look_of_its_inside():
    """Colour statistics of a patch from an object's middle name its class far better than chance."""

    def statistics(name, seed):
        rng = np.random.default_rng(seed)
        patch = OBJECTS[name].draw(*centred_grid(48, 0.7), rng).colours.reshape(3, -1)
        return np.concatenate([patch.mean(1), patch.std(1), np.percentile(patch, (5, 95), axis=1).ravel()])

    known = {name: np.mean([statistics(name, seed) for seed in range(30)], 0) for name in OBJECTS}
    hits = [
        name == min(known, key=lambda other: np.linalg.norm(known[other] - statistics(name, seed)))
        for name in OBJECTS
        for seed in range(100, 115)
    ]
    assert np.mean(hits) > 0.75


@pytest.mark.parametrize("bird, other", [("landbird", "waterbird"), ("waterbird", "landbird")])
def test_an_unfamiliar_bird_has_plumage_of_both_and_more_of_its_own(bird, other):
    x, y = centred_grid(48, 1.1 * OBJECTS[bird].reach)

    def colours(drawn, name):
        looks = [drawn[name].draw(x, y, np.random.default_rng(seed)) for seed in range(200)]
        return np.mean([look.colours[:, look.depth > 0].mean(axis=1) for look in looks], axis=0)

    own, others, unfamiliar = colours(OBJECTS, bird), colours(OBJECTS, other), colours(UNFAMILIAR, bird)
    shares = (unfamiliar - own) / (others - own)
    assert np.abs(shares - np.mean(BORROWED_PLUMAGE)).max() < 0.15


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("pixels", [16, 51])
def test_places_are_textures_of_any_size(place, pixels):
    colours = PLACES[place](pixels, np.random.default_rng(0))
    assert colours.shape == (3, pixels, pixels) and colours.dtype == np.float32
    assert colours.min() >= 0 and colours.max() <= 1
    assert colours.std((1, 2)).max() > 0.01


def test_honeycomb_cells_are_those_of_the_nearest_centre():
    x, y = centred_grid(40, 1)
    size = 0.3
    q, r, distance, edge = hexagons(x, y, size)
    cells = np.array([(a, b) for a in range(-8, 9) for b in range(-8, 9)])
    centres = size * np.stack([np.sqrt(3) * (cells[:, 0] + cells[:, 1] / 2), 1.5 * cells[:, 1]], 1)
    distances = np.hypot(x[..., None] - centres[:, 0], y[..., None] - centres[:, 1])
    np.testing.assert_array_equal(np.stack([q, r], -1), cells[distances.argmin(-1)])
    np.testing.assert_allclose(distance, distances.min(-1) / size, atol=1e-5)
    nearest, second = np.sort(distances, -1)[..., :2].transpose(2, 0, 1)
    assert edge[second - nearest < 1e-3].min(initial=1) > 0.98
    assert edge[nearest < 0.02].max(initial=0) < 0.15
