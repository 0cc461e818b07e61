"""Sentence-T5's tokenizer, from the files that its folder holds: `spiece.model` or `tokenizer.json`."""

import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int32

from clippy_jax.errors import InputError

PAD, EOS = 0, 1
FILES = ("spiece.model", "tokenizer.json")  # in order of preference: SentencePiece is four times as fast
# Where sentence-transformers keeps the longest text: in 2.2, and today. Without either it is what Sentence-T5 has.
LONGEST_TEXT_IN = (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length"))
LONGEST_TEXT = 256


class Tokenizer:
    """Turns texts into T5's token ids: EOS (1) at the end, then PAD (0). Thread-safe.

    The ids are those of transformers' `T5Tokenizer`, except that a text which spells out a marker like "</s>" gets the
    marker's id from `tokenizer.json` alone.

    Attributes:
      file: what it was loaded from; a copy of it in another folder loads as the same tokenizer.
      vocabulary_size: ids are below it. A model's token embedding may have more rows.
      longest_text: tokens, EOS included, at which sentence-transformers cuts a text with this folder.
    """

    def __init__(
        self,
        file: pathlib.Path,
        encode_pieces: Callable[[list[str]], list[list[int]]],
        vocabulary_size: int,
        longest_text: int,
    ):
        self.file = file
        self.vocabulary_size = vocabulary_size
        self.longest_text = longest_text
        self._encode_pieces = encode_pieces

    def encode(self, texts: Sequence[str], max_length: int) -> Int32[np.ndarray, "T L"]:
        """Token ids, L = max_length; a longer text is cut and keeps its EOS."""
        ids = np.full((len(texts), max_length), PAD, np.int32)
        for row, pieces in zip(ids, self._encode_pieces(list(texts))):
            length = min(len(pieces), max_length - 1)
            row[:length] = pieces[:length]
            row[length] = EOS
        return ids


def load_tokenizer(folder: str | pathlib.Path) -> Tokenizer:
    """Loads the tokenizer of a Sentence-T5 folder.

    Raises:
      InputError: the folder does not exist, or holds no tokenizer that can be read.
    """
    folder = pathlib.Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"tokenizer: the folder {folder} does not exist; give one with {' or '.join(FILES)}")
    for name, load in zip(FILES, (_load_sentencepiece, _load_tokenizers)):
        if (folder / name).is_file():
            try:
                return load(folder / name)
            except InputError:
                raise
            except Exception as error:  # both libraries raise what they like
                reason = str(error).partition("\n")[0]
                raise InputError(f"tokenizer: cannot read {folder / name}: {reason}; copy the file again") from error
    raise InputError(f"tokenizer: {folder} holds neither {' nor '.join(FILES)}; copy one from sentence-t5-base")


def _longest_text(folder: pathlib.Path) -> int:
    for name, key in LONGEST_TEXT_IN:
        try:
            value = json.loads((folder / name).read_text("utf-8")).get(key)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError):
            raise InputError(f"tokenizer: {folder / name} is not a JSON object; copy the file again") from None
        if isinstance(value, int) and not 2 <= value:
            raise InputError(f"tokenizer: {folder / name} has {key}={value}; it must be at least 2 tokens")
        if isinstance(value, int) and value < 10**6:  # transformers writes a huge number where there is no limit
            return value
    return LONGEST_TEXT


def _load_sentencepiece(file: pathlib.Path) -> Tokenizer:
    import sentencepiece  # here and below: where one of the two files is used, the other's library is not needed

    processor = sentencepiece.SentencePieceProcessor(model_proto=file.read_bytes())
    longest_text = _longest_text(file.parent)
    return Tokenizer(file, lambda texts: processor.encode(texts, num_threads=1), processor.vocab_size(), longest_text)


def _load_tokenizers(file: pathlib.Path) -> Tokenizer:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode_pieces(texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]

    return Tokenizer(file, encode_pieces, tokenizer.get_vocab_size(), _longest_text(file.parent))
