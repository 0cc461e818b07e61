"""The tokenizer that other tests make, too."""

from tests.input_pipeline.conftest import spiece_folder  # noqa: F401
