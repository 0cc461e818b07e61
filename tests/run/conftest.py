"""A complete configuration for the tests of this folder."""

import pathlib
import runpy

import pytest

from clippy_jax.config import Config, parse


@pytest.fixture
def config() -> Config:
    """The configuration of the demo."""
    path = pathlib.Path(__file__).parents[2] / "configs" / "shapes.py"
    return parse(runpy.run_path(str(path))["get_config"]())
