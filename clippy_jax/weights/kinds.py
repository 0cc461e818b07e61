"""What a path of weights is: decided here alone, by what is in the file or folder and never by its name."""

import enum
import os
import re
from collections.abc import Iterable

from clippy_jax.errors import InputError, reading


class Kind(enum.StrEnum):
    """Everything that weights come in; the values are what messages call it."""

    RUN = "workdir of a run"
    CONVERTED = "converted folder"
    SENTENCE_T5 = "Sentence-T5 folder"
    CLIPPY = "CLIPpy checkpoint"
    DINO = "DINO backbone"


# What a folder of each kind has in it.
_FOLDERS = {
    Kind.CONVERTED: ("params.safetensors",),
    Kind.SENTENCE_T5: ("modules.json",),
    Kind.RUN: ("config.json", "checkpoints"),
}

# The files in which transformers keeps the tensors of a folder, whole or in parts that a list goes with.
TENSOR_FILES = ("model.safetensors", "pytorch_model.bin")

# Names that only one kind of state dict has, and what transformers calls DINO's.
_NAMES = {
    Kind.CLIPPY: re.compile(r"(?:visual\.trunk|text\.[02])\."),
    Kind.DINO: re.compile(
        r"(?:patch_embed\.proj|blocks\.\d+\.(?:norm1|attn\.qkv)"
        r"|embeddings\.patch_embeddings|(?:encoder\.layer|layers)\.\d+\.layernorm_before)\."
    ),
}


def kind_of(path: str) -> Kind | None:
    """What a folder is; None for tensors (a file, or a folder of transformers), of which `kind_of_keys` tells the kind.

    Raises:
      InputError: nothing is there, or a folder of something else.
    """
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist; give the path of weights")
    if not os.path.isdir(path):
        return None
    for kind, names in _FOLDERS.items():
        if all(os.path.exists(os.path.join(path, name)) for name in names):
            return kind
    if any(os.path.exists(os.path.join(path, name + end)) for name in TENSOR_FILES for end in ("", ".index.json")):
        return None
    wanted = ", ".join(f"no {kind} ({' and '.join(names)})" for kind, names in _FOLDERS.items())
    raise InputError(f"{path} is a folder of something else: {wanted}; give one of these, or a file of weights")


def kind_of_keys(keys: Iterable[str], network: str, source: str) -> tuple[Kind, str]:
    """What the tensors of a state dict are, and what stands before the public names in their keys.

    Args:
      keys: the keys.
      network: which one is meant where the keys hold two ("student.backbone.", "teacher.backbone.").
      source: how an error message names the state dict.

    Raises:
      InputError: they are something else.
    """
    keys = list(keys)
    for kind, names in _NAMES.items():
        found = [(key, names.search(key)) for key in keys]
        prefixes = [key[: match.start()] for key, match in found if match and key[: match.start()][-1:] in ("", ".")]
        if prefixes:
            return kind, next((prefix for prefix in prefixes if network in prefix.split(".")), prefixes[0])
    is_text = any(key.startswith(("encoder.block.", "shared.", "linear.")) for key in keys)
    advice = "; give the whole Sentence-T5 folder instead of a file in it" if is_text else ""
    beginnings = sorted({key.partition(".")[0] for key in keys})
    raise InputError(
        f"{source} is none of the weights known here (a {Kind.DINO}, a {Kind.CLIPPY}, a {Kind.SENTENCE_T5}): "
        f"its keys begin with {', '.join(beginnings[:5])}{advice}"
    )


def is_safetensors(path: str) -> bool:
    """Whether a file is one of safetensors; otherwise it is one of PyTorch.

    Raises:
      InputError: it cannot be read, or is neither.
    """
    with reading(path), open(path, "rb") as file:
        start = file.read(512)
    if not start:
        raise InputError(f"{path} is empty; get it again")
    if start.lstrip()[:1] == b"<":
        raise InputError(f"{path} is a web page, not weights; the download went wrong, get it again")
    if start.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a pointer of Git LFS, not the weights; run `git lfs pull`")
    if start[8:9] == b"{":  # after the length of the header
        return True
    if not start.startswith((b"PK", b"\x80")):  # an archive, a pickle
        raise InputError(f"{path} is damaged or no weights: neither PyTorch's nor safetensors; get it again")
    return False
