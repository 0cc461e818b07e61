"""Weights in every form in which people hold them: PyTorch's files, ours, and the folder of a run."""

import importlib
from typing import Any

# The public names and their modules, imported when they are first asked for: tables and rules need no file formats.
_MODULES = {
    "Checkpoint": "checkpoint",
    "from_clippy": "load",
    "from_towers": "load",
    "inspect": "inspection",
    "load_checkpoint": "load",
    "write_clippy": "clippy_file",
    "write_clippy_safetensors": "clippy_file",
    "write_converted_folder": "converted_folder",
    "write_sentence_t5": "sentence_t5",
}
__all__ = list(_MODULES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
