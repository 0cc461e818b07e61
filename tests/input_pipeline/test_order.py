import concurrent.futures

import numpy as np

from clippy_jax.input_pipeline.order import Order


def test_an_epoch_is_a_permutation_without_its_remainder():
    order = Order(num_samples=103, batch_size=10, seed=0)
    assert order.steps_per_epoch == 10
    epochs = [np.concatenate([order.indices(10 * epoch + step) for step in range(10)]) for epoch in range(30)]
    for epoch in epochs:
        assert len(np.unique(epoch)) == 100 and epoch.min() >= 0 and epoch.max() < 103
    assert len({tuple(epoch) for epoch in epochs}) == 30
    assert set(np.concatenate(epochs)) == set(range(103)), "some samples are never used"


def test_steps_depend_on_nothing_but_their_number():
    forward, backward = (Order(50, 7, seed=3) for _ in range(2))
    steps = [forward.indices(step) for step in range(40)]
    for step in reversed(range(40)):
        np.testing.assert_array_equal(backward.indices(step), steps[step])
    assert not np.array_equal(Order(50, 7, seed=4).indices(0), steps[0])


def test_threads_around_the_end_of_an_epoch():
    order, expected = (Order(1000, 10, seed=0) for _ in range(2))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for step, indices in enumerate(pool.map(order.indices, range(250))):
            np.testing.assert_array_equal(indices, expected.indices(step))


def test_every_sample_is_as_likely_everywhere():
    firsts = np.concatenate([Order(8, 1, seed=0).indices(8 * epoch) for epoch in range(4000)])
    counts = np.bincount(firsts, minlength=8)
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500)  # five standard deviations


def test_as_many_samples_as_the_web_has():
    indices = Order(11_000_000, 8192, seed=0).indices(1341)
    assert indices.dtype == np.int32 and len(np.unique(indices)) == 8192
