"""A sample of the damaged inputs that `tests/fuzz/` makes; `make soak` reads thousands."""

import pytest

from tests.fuzz import evaluation_data, settings, training_data, weights
from tests.fuzz.faults import faults

TRIES = {"tar": 300, "index": 200, "table": 300, "image": 400, "pattern": 300, "lock": 8}
TRIES_OF_OTHERS = 30


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "target",
    [*training_data.TARGETS, *evaluation_data.TARGETS, *settings.TARGETS, *weights.TARGETS],
    ids=lambda target: target.name,
)
def test_damaged_input_ends_well(tmp_path, target):
    assert list(faults(target, range(TRIES.get(target.name, TRIES_OF_OTHERS)), tmp_path)) == []
