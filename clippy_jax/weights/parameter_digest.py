"""A name for the weights that a number was measured with."""

import hashlib
from typing import Any

import jax
import numpy as np


def parameter_digest(params: dict[str, Any]) -> str:
    """SHA-256 over the names, shapes and values of all parameters.

    It depends on the weights alone, so a workdir and the file exported from it have the same digest.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        values = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return f"sha256:{digest.hexdigest()}"
