"""Class embeddings kept in a folder, so that ImageNet's 80,000 prompts are embedded once for each checkpoint."""

import dataclasses
import hashlib
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float


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
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            classes = None
        usable = classes is not None and classes.ndim == 2 and len(classes) == len(prompts)
        return classes if np.all(multihost_utils.process_allgather(np.array(usable))) else None

    def write(self, prompts: Sequence[Sequence[str]], classes: Float[np.ndarray, "C D"]) -> None:
        """Keeps them, from the first process; a folder that cannot be written is no reason to stop."""
        if jax.process_index() != 0:
            return
        path = self._path(prompts)
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            np.savez(temporary, classes=classes)
            temporary.replace(path)
        except OSError as error:
            print(f"class embeddings are not kept: {error}", flush=True)

    def _path(self, prompts: Sequence[Sequence[str]]) -> pathlib.Path:
        # `repr` tells apart what joining would not: ["a", "b"] and ["a, b"].
        digest = hashlib.sha256(repr((self.text_side, [list(of_class) for of_class in prompts])).encode())
        return self.folder / f"{digest.hexdigest()}.npz"
