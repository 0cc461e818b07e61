"""What a path of weights is: decided here alone, by what is in the file or folder and never by its name."""

import enum
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

from clippy_jax import hub
from clippy_jax.datasets import nested_folder
from clippy_jax.errors import InputError, reading


class Kind(enum.StrEnum):
    """Everything that weights come in; the values are what messages call it."""

    RUN = "workdir of a run"
    CONVERTED = "converted folder"
    SENTENCE_T5 = "Sentence-T5 folder"
    CLIPPY = "CLIPpy checkpoint"
    BACKBONE = "ViT backbone"


# What a folder of each kind has in it.
_FOLDERS = {
    Kind.CONVERTED: ("params.safetensors",),
    Kind.SENTENCE_T5: ("modules.json",),
    Kind.RUN: ("config.json", "checkpoints"),
}

# The files in which transformers keeps the tensors of a folder, whole or in parts that a list goes with.
TENSOR_FILES = ("model.safetensors", "pytorch_model.bin")

# A file of weights under another name, of which a folder then has one; and what else of a repository is read.
_ANY_TENSORS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_OPTIMIZER = "optimizer.safetensors"
_SETTINGS = re.compile(r"(?:(?:\d+_\w+|tokenizer)/)?(?:[^/]+\.json|spiece\.model)")
_WITH_TENSORS = re.compile(r"(?:\d+_\w+)?")  # folders: the root, and those of sentence-transformers' modules

# Names that only one kind of state dict has, and what transformers calls those of backbones.
_NAMES = {
    Kind.CLIPPY: re.compile(r"(?:visual\.trunk|text\.[02])\."),
    Kind.BACKBONE: re.compile(
        r"(?:patch_embed\.proj|blocks\.\d+\.(?:norm1|attn\.qkv)"
        r"|embeddings\.patch_embeddings?|(?:encoder\.layer|layers)\.\d+\.layernorm_before)\."
    ),
}


def find_weights(name: str, flag: str = "") -> str:
    """The path of weights, after a download where they are named as on the Hugging Face hub; see `hub.local_path`."""
    return hub.local_path(name, needed_files, flag)


def needed_files(files: Sequence[str]) -> list[str]:
    """Of a repository's files those that reading its weights takes: safetensors where there are any; none without.

    Raises:
      InputError: it holds several files of weights, of which one has to be named.
    """
    tensors = []
    for folder in sorted({os.path.dirname(file) for file in files}):
        if _WITH_TENSORS.fullmatch(folder):
            inside = [os.path.basename(file) for file in files if os.path.dirname(file) == folder]
            tensors += [os.path.join(folder, name) for name in _tensors(inside)]
    return tensors and [file for file in files if file in tensors or _SETTINGS.fullmatch(file)]


def _tensors(names: Sequence[str]) -> list[str]:
    """The names of the files of one folder that hold its tensors."""
    for name in ("params.safetensors", *TENSOR_FILES):
        stem, ending = os.path.splitext(name)
        if f"{name}.index.json" in names:
            parts = [part for part in names if re.fullmatch(rf"{stem}-\d+-of-\d+{re.escape(ending)}", part)]
            return [*parts, f"{name}.index.json"]
        if name in names:
            return [name]
    for ending in _ANY_TENSORS:
        found = sorted(name for name in names if name.endswith(ending) and name != _OPTIMIZER)
        if len(found) > 1:
            raise InputError(f"there are {len(found)} files of weights, {', '.join(found[:4])}, ...; name one of them")
        if found:
            return found
    return []


def kind_of(path: str) -> Kind | None:
    """What a folder is; None for tensors (a file, or a folder of transformers), of which `kind_of_keys` tells the kind.

    Raises:
      InputError: nothing is there, or a folder of something else.
    """
    root = hub.as_path(path)
    with reading(path):
        if not root.exists():
            raise InputError(f"{path} does not exist; give the path of weights, or a name on the hub: hf-hub:ORG/NAME")
        if not root.is_dir():
            return None
        if kind := _kind_of_folder(root):
            return kind
        present = sorted(file.name for file in root.iterdir())
    if tensor_files(path, present):
        return None
    wanted = ", ".join(f"no {kind} ({' and '.join(names)})" for kind, names in _FOLDERS.items())
    hint = nested_folder.hint(root, lambda inner: _kind_of_folder(inner) is not None)
    raise InputError(f"{path} is a folder of something else: {wanted}; give one of these, or a file of weights{hint}")


def _kind_of_folder(folder: pathlib.Path) -> Kind | None:
    present = (kind for kind, names in _FOLDERS.items() if all((folder / name).exists() for name in names))
    return next(present, None)


def tensor_files(folder: str, names: Sequence[str] | None = None) -> list[str]:
    """The paths of the files that hold a folder's tensors: one, or parts and what lists them, or none.

    Raises:
      InputError: there are several, of which one has to be named.
    """
    with reading(folder):
        names = sorted(os.listdir(folder)) if names is None else names
    try:
        return [os.path.join(folder, name) for name in _tensors(names)]
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None


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
    is_ours = any(key.startswith("image/") for key in keys)
    folder = Kind.SENTENCE_T5 if is_text else Kind.CONVERTED if is_ours else ""
    advice = f"; give the whole {folder} instead of a file in it" if folder else ""
    beginnings = sorted({key.partition(".")[0] for key in keys})
    raise InputError(
        f"{source} is none of the weights known here (a {Kind.BACKBONE}, a {Kind.CLIPPY}, a {Kind.SENTENCE_T5}): "
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
