import numpy as np
import pytest

from clippy_jax.errors import InputError
from clippy_jax.input_pipeline import evaluation_batches
from tests.evaluators.fake_model import FakeModel

BLANK = (np.full((4, 5), 9, np.uint8), np.array(-1, np.int32))


def read(index: int) -> evaluation_batches.Sample:
    return np.full((1 + index % 4, 1 + index % 5), index, np.uint8), np.array(index, np.int32)


def test_split_pads_the_last_batch():
    plan = evaluation_batches.split([3, 1, 4, 1, 5], 2, BLANK)
    assert [batch.rows for batch in plan] == [(3, 1), (4, 1), (5, evaluation_batches.PADDING)]


@pytest.mark.parametrize("devices", [1, 8])
def test_load_keeps_the_order_and_leaves_missing_rows_blank(devices):
    mesh = FakeModel(devices).mesh

    def broken_at_six(index):
        if index == 6:
            raise OSError
        return read(index)

    failures = evaluation_batches.ReadFailures([f"{index}.jpg" for index in range(700)], broken_at_six)
    loaded = list(evaluation_batches.load(evaluation_batches.split(range(21), 8, BLANK), broken_at_six, mesh, failures))
    pictures, numbers = (np.concatenate([np.asarray(batch[field]) for batch in loaded]) for field in (0, 1))
    assert numbers.tolist() == [*range(6), -1, *range(7, 21), -1, -1, -1]
    for row, picture in enumerate(pictures):
        expected = BLANK[0].copy()
        if row < 21 and row != 6:
            expected[: 1 + row % 4, : 1 + row % 5] = row
        np.testing.assert_array_equal(picture, expected)
    assert len(loaded[0][0].sharding.device_set) == devices
    assert failures.agree() == ("6.jpg",)


def test_a_refused_image_ends_the_evaluation_with_its_own_message():
    def refuse(index):
        if index == 3:
            raise InputError("3.png holds label 77")
        return read(index)

    failures = evaluation_batches.ReadFailures([f"{index}.jpg" for index in range(9)], refuse)
    with pytest.raises(InputError, match="3.png holds label 77"):
        list(evaluation_batches.load(evaluation_batches.split(range(9), 8, BLANK), refuse, FakeModel().mesh, failures))


def test_a_bug_in_reading_keeps_its_traceback():
    def bug(index):
        return read(index)[index]

    failures = evaluation_batches.ReadFailures(["0.jpg"] * 9, bug)
    with pytest.raises(IndexError):
        list(evaluation_batches.load(evaluation_batches.split(range(9), 8, BLANK), bug, FakeModel().mesh, failures))
