"""What is freed goes back to the system."""

import ctypes
import pathlib
import resource

import numpy as np
import pytest

from clippy_jax.host_memory import give_back_memory


def resident_bytes():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than glibc")
def test_freed_memory_goes_back_to_the_system():
    blocks = [np.ones(20_000, np.uint8) for _ in range(2_000)]
    kept = blocks[::10]
    del blocks
    before = resident_bytes()
    give_back_memory()
    assert resident_bytes() < before - 20e6
    assert len(kept) == 200
