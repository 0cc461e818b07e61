"""The learning rate against the numbers of the public recipe."""

import jax
import numpy as np
import optax
import pytest

from clippy_jax.config import ScheduleConfig
from clippy_jax.training.schedule import learning_rate

RECIPE = ScheduleConfig(peak_learning_rate=5e-4, warmup_steps=10_000, decay_steps=43_008, stop_step=5_000)


def test_numbers_of_the_public_recipe():
    rate = learning_rate(RECIPE)
    np.testing.assert_allclose(rate(0), 5e-8, rtol=1e-6)
    np.testing.assert_allclose(rate(4_999), 2.5e-4, rtol=1e-6)
    np.testing.assert_allclose(rate(9_999), 5e-4, rtol=1e-6)
    np.testing.assert_allclose(rate(10_000), 5e-4, rtol=1e-6)


def test_cosine_equals_optax():
    rate = learning_rate(RECIPE)
    cosine = optax.cosine_decay_schedule(5e-4, 43_008 - 10_000)
    for step in (10_001, 17_000, 26_504, 40_000, 43_000):
        np.testing.assert_allclose(rate(step), cosine(step - 10_000), rtol=1e-5, atol=1e-10)
    np.testing.assert_allclose(rate(26_504), 2.5e-4, rtol=1e-5)
    np.testing.assert_allclose([rate(43_008), rate(50_000)], 0, atol=1e-12)


def test_stop_step_does_not_bend_the_curve():
    early = learning_rate(RECIPE)
    late = learning_rate(
        ScheduleConfig(peak_learning_rate=5e-4, warmup_steps=10_000, decay_steps=43_008, stop_step=43_008)
    )
    for step in (0, 4_999, 12_345):
        assert early(step) == late(step)


@pytest.mark.parametrize("step, share", [(0, 1.0), (50, 0.5), (100, 0.0)])
def test_without_warmup(step, share):
    config = ScheduleConfig(peak_learning_rate=1.0, warmup_steps=0, decay_steps=100, stop_step=100)
    np.testing.assert_allclose(jax.jit(learning_rate(config))(step), share, atol=1e-6)
