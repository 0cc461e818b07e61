"""Sentence-T5's tokenizer, by transformers, and the files that a folder keeps of it."""

import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32

from clippy_jax.errors import InputError, reading
from clippy_jax.hub import as_path, local_path

PAD, EOS = 0, 1
MODEL_FILES = ("spiece.model", "tokenizer.json")  # what the ids follow from; a folder has one of them or both
# Where sentence-transformers keeps the longest text: in 2.2, and today. Without either it is what Sentence-T5 has.
LONGEST_TEXT_IN = (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length"))
LONGEST_TEXT = 256
TOKENIZER_FILES = (*MODEL_FILES, "tokenizer_config.json", "special_tokens_map.json", "sentence_bert_config.json")


class Tokenizer:
    """Turns texts into T5's token ids: EOS (1) at the end, then PAD (0). Thread-safe.

    The ids are those of transformers' `T5Tokenizer`. A text that spells out a marker such as "</s>" gets the marker's
    id, as there, but no PAD: "<pad>" is left out.

    Attributes:
      vocabulary_size: ids are below it. A model's token embedding may have more rows.
      longest_text: tokens, EOS included, at which sentence-transformers cuts a text with this folder.
    """

    def __init__(self, tokenizer: Any, longest_text: int):
        """Takes a `transformers.PreTrainedTokenizerFast`."""
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self.vocabulary_size = len(tokenizer)
        self.longest_text = longest_text

    def digest(self) -> str:
        """A hexadecimal number that differs where ids differ."""
        return hashlib.sha256(self._backend.to_str().encode()).hexdigest()

    def encode(self, texts: Sequence[str], max_length: int) -> Int32[np.ndarray, "T L"]:
        """Token ids, L = max_length; a longer text is cut and keeps its EOS."""
        ids = np.full((len(texts), max_length), PAD, np.int32)
        texts = [text.encode("utf-8", "replace").decode() for text in texts]  # half a surrogate pair is no character
        for row, encoding in zip(ids, self._backend.encode_batch_fast(texts, add_special_tokens=False)):
            pieces = [piece for piece in encoding.ids if piece != PAD][: max_length - 1]
            row[: len(pieces)] = pieces
            row[len(pieces)] = EOS
        return ids


def load_tokenizer(name: str | os.PathLike) -> Tokenizer:
    """Loads the tokenizer of a Sentence-T5 folder, or of a name on the Hugging Face hub.

    Raises:
      InputError: as `find_tokenizer` does, or what is in the folder cannot be read.
    """
    folder = find_tokenizer(name)
    # Threads of ours share one tokenizer; threads of its own would fight them, and complain at every fork.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that models cannot be had without PyTorch
    import transformers  # here, since it takes seconds

    present = " and ".join(name for name in MODEL_FILES if (folder / name).exists())
    with tempfile.TemporaryDirectory() as local, reading(f"tokenizer: {present} in {folder}", "copy the files again"):
        copy_tokenizer(folder, local)  # the folder may be a remote one
        # Of `spiece.model` alone, no markers beyond its own: models may have no rows for them.
        tokenizer = transformers.T5Tokenizer.from_pretrained(local, extra_ids=0, local_files_only=True)
    return Tokenizer(tokenizer, _longest_text(folder))


def find_tokenizer(name: str | os.PathLike) -> pathlib.Path:
    """The folder with the files of a tokenizer: the one named, `tokenizer/` in it, or that of a name on the hub.

    Raises:
      InputError: the folder does not exist or holds no tokenizer, or nothing of the name can be fetched.
    """
    files, neither = (word.join(MODEL_FILES) for word in (" or ", " nor "))
    folder = as_path(local_path(name, _needed_files, "tokenizer"))
    if folder.name in MODEL_FILES and not folder.is_dir():
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"tokenizer: the folder {folder} does not exist; give one with {files}")
    for place in (folder, folder / "tokenizer"):
        if has_tokenizer(place):
            return place
    raise InputError(f"tokenizer: {folder} holds neither {neither}; copy one from sentence-t5-base")


def has_tokenizer(folder: str | os.PathLike) -> bool:
    """Whether the files of a tokenizer lie in a folder."""
    return any((as_path(folder) / name).is_file() for name in MODEL_FILES)


def copy_tokenizer(source: str | os.PathLike, folder: str | os.PathLike) -> None:
    """Copies the tokenizer files that a folder has; they make the same tokenizer elsewhere."""
    for name in TOKENIZER_FILES:
        if (as_path(source) / name).is_file():
            (as_path(folder) / name).write_bytes((as_path(source) / name).read_bytes())


def _needed_files(files: Sequence[str]) -> list[str]:
    """Those of a repository on the hub that make a tokenizer; none where it has none."""
    for folder in ("", "tokenizer/"):
        found = [file for file in files if file.startswith(folder) and file.removeprefix(folder) in TOKENIZER_FILES]
        if any(file.endswith(MODEL_FILES) for file in found):
            return found
    return []


def _longest_text(folder: pathlib.Path) -> int:
    for name, key in LONGEST_TEXT_IN:
        if not (folder / name).is_file():
            continue
        with reading(f"tokenizer: {folder / name}", "copy the file again", "is not a JSON object"):
            value = json.loads((folder / name).read_text("utf-8")).get(key)
        if isinstance(value, int) and not 2 <= value:
            raise InputError(f"tokenizer: {folder / name} has {key}={value}; it must be at least 2 tokens")
        if isinstance(value, int) and value < 10**6:  # transformers writes a huge number where there is no limit
            return value
    return LONGEST_TEXT
