"""Class embeddings kept in a folder, so that ImageNet's 80,000 prompts are embedded once for each checkpoint."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float

from clippy_jax.errors import InputError
from clippy_jax.whole_files import complete_or_nothing


def default_folder() -> pathlib.Path:
    """The user's cache, since the folder of a checkpoint need not be writable."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "clippy_jax" / "class_embeddings"


@dataclasses.dataclass(frozen=True)
class ClassEmbeddingCache:
    """Files named by a digest of all that class embeddings follow from; one that is damaged counts as not there.

    Attributes:
      folder: made when it is first needed.
      text_side: what turns a prompt into a vector: digest of the parameters, configuration, tokenizer.
    """

    folder: pathlib.Path
    text_side: tuple[Any, ...]

    def read(self, prompts: Sequence[Sequence[str]]) -> Float[np.ndarray, "C D"] | None:
        """The embeddings of these prompts by class, if all processes have them: they embed together or not at all."""
        try:
            with np.load(self._path(prompts), allow_pickle=False) as file:
                classes = file["classes"]
        except Exception:  # NumPy and zipfile raise what they like
            classes = None
        usable = classes is not None and classes.ndim == 2 and len(classes) == len(prompts)
        return classes if np.all(multihost_utils.process_allgather(np.array(usable))) else None

    def write(self, prompts: Sequence[Sequence[str]], classes: Float[np.ndarray, "C D"]) -> None:
        """Keeps them, from the first process; a folder that cannot be written is no reason to stop."""
        if jax.process_index() != 0:
            return
        try:
            with complete_or_nothing(str(self._path(prompts)), force=True) as temporary, open(temporary, "wb") as file:
                np.savez(file, classes=classes)
        except InputError as error:
            print(f"class embeddings are not kept: {error}", flush=True)

    def _path(self, prompts: Sequence[Sequence[str]]) -> pathlib.Path:
        # `repr` tells apart what joining would not: ["a", "b"] and ["a, b"].
        digest = hashlib.sha256(repr((self.text_side, [list(of_class) for of_class in prompts])).encode())
        return self.folder / f"{digest.hexdigest()}.npz"
