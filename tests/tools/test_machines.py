"""Times on paper, beside those worked out by hand."""

import pytest

from tools.benchmarks.machines import SUSTAINED, Machine

MACHINE = Machine("ours", teraflops=100, float32_teraflops=20, link=50, joined=8, network=5)


def test_towers_and_loss_have_their_own_rates():
    assert MACHINE.compute_seconds(300e12, 40e12) == pytest.approx((3 + 2) / SUSTAINED)


@pytest.mark.parametrize("devices, seconds", [(2, 0.2), (8, 0.2), (9, 2)])
def test_the_slowest_link_on_the_way_decides(devices, seconds):
    assert MACHINE.send_seconds(10e9, devices) == pytest.approx(seconds)
