"""What the folder of a run carries, and what a run tells while it goes on."""

from clippy_jax.run.checkpointing import Checkpointer, restore_arrays
from clippy_jax.run.workdir import read_config, read_model

__all__ = ["Checkpointer", "read_config", "read_model", "restore_arrays"]
