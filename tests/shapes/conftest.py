"""One small data set for all tests here."""

from pathlib import Path

import pytest

from clippy_jax.shapes.dataset import write_dataset
from clippy_jax.shapes.settings import Settings


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(train_pairs=640, evaluation_images=56, image_size=48, seed=3, pairs_per_shard=500)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory, settings) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "data"
    assert write_dataset(folder, settings, workers=2)
    return folder
