"""How segmentation is measured: one record for each way in which published tables were made."""

from clippy_jax.evaluators.protocols.protocol import COLUMNS, FLAGS, STANDARD, Protocol
from clippy_jax.evaluators.protocols.records import names, read

__all__ = ["COLUMNS", "FLAGS", "STANDARD", "Protocol", "names", "read"]
