# ruff: noqa: F401 (fixtures are found by their names)
from tests.analysis.conftest import embedder, model, red_and_lime
