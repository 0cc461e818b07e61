"""Names as JAX gives them, and the data sheets' numbers."""

import pytest

from clippy_jax.training.device_rates import data_sheet_rate


@pytest.mark.parametrize(
    "device_kind, precision, teraflops",
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989),
        ("NVIDIA H100 PCIe", "bfloat16", 756),
        ("NVIDIA H200", "tensorfloat32", 494),
        ("NVIDIA A100-SXM4-40GB", "bfloat16", 312),
        ("NVIDIA A100-PCIE-40GB", "float32", 19.5),
        ("NVIDIA A10", "bfloat16", 125),
        ("NVIDIA L4", "bfloat16", 121),
        ("Tesla V100-SXM2-16GB", "tensorfloat32", 15.7),
        ("Tesla V100-SXM2-16GB", "bfloat16", None),
        ("Tesla T4", "float32", 8.1),
        ("TPU v5 lite", "bfloat16", 197),
        ("TPU v5", "bfloat16", 459),
        ("TPU v4", "float32", 275 / 6),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bfloat16", None),
        ("cpu", "float32", None),
    ],
)
def test_a_device_has_the_rate_of_its_data_sheet(device_kind, precision, teraflops):
    expected = None if teraflops is None else pytest.approx(teraflops * 1e12)
    assert data_sheet_rate(device_kind, precision) == expected
