"""A sample of the damaged inputs that `tests/fuzz.py` makes."""

import pytest

from tests import fuzz


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make, tries", [(fuzz.tar, 300), (fuzz.index, 200), (fuzz.table, 300), (fuzz.image, 400), (fuzz.pattern, 300)]
)
def test_damaged_input_ends_well(tmp_path, make, tries):
    assert list(fuzz.faults(make, range(tries), tmp_path)) == []
