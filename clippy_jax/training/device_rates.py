"""How many floating point operations a second the makers' data sheets promise, by device and precision."""

import re
from typing import Literal, NamedTuple


class Rates(NamedTuple):
    """TFLOP/s of one device, dense, with sums in float32; None where it has no such products."""

    bfloat16: float | None
    tensorfloat32: float
    float32: float


def _tpu(bfloat16: float) -> Rates:
    """JAX makes a more exact product of three or six of bfloat16."""
    return Rates(bfloat16, bfloat16 / 3, bfloat16 / 6)


# The words that JAX's name of a device has, and its rates; the first that fits counts. JAX multiplies "tensorfloat32"
# in float32 where a card has no such products.
DATA_SHEETS = (
    (("V100", "PCIE"), Rates(None, 14.0, 14.0)),
    (("V100",), Rates(None, 15.7, 15.7)),
    (("T4",), Rates(None, 8.1, 8.1)),
    (("A100",), Rates(312, 156, 19.5)),
    (("A30",), Rates(165, 82, 10.3)),
    (("A40",), Rates(149.7, 74.8, 37.4)),
    (("A10",), Rates(125, 62.5, 31.2)),
    (("L4",), Rates(121, 60, 30.3)),
    (("L40S",), Rates(362, 183, 91.6)),
    (("H100", "PCIE"), Rates(756, 378, 51)),
    (("H100", "NVL"), Rates(835, 417, 60)),
    (("H100",), Rates(989, 494, 67)),
    (("H200", "NVL"), Rates(835, 417, 60)),
    (("H200",), Rates(989, 494, 67)),
    (("B200",), Rates(2250, 1125, 75)),
    (("TPU", "V4"), _tpu(275)),
    (("TPU", "V5", "LITE"), _tpu(197)),
    (("TPU", "V5E"), _tpu(197)),
    (("TPU", "V5"), _tpu(459)),
    (("TPU", "V5P"), _tpu(459)),
    (("TPU", "V6", "LITE"), _tpu(918)),
)


def data_sheet_rate(device_kind: str, precision: Literal["float32", "tensorfloat32", "bfloat16"]) -> float | None:
    """FLOP/s of a device's matrix products at a precision of `config.model.precision`.

    None where the device is none of `DATA_SHEETS`, only a part of one (MIG), or has no such products.

    Args:
      device_kind: `jax.Device.device_kind`, such as "NVIDIA H100 80GB HBM3".
    """
    words = set(re.findall(r"\w+", device_kind.upper()))
    for needed, rates in DATA_SHEETS:
        if words.issuperset(needed) and "MIG" not in words:
            teraflops = getattr(rates, precision)
            return None if teraflops is None else teraflops * 1e12
    return None
