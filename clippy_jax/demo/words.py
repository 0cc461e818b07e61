"""The words typed into the page, as prompts to tell apart."""

import re

from clippy_jax.errors import InputError

MOST_WORDS = 50
LONGEST_WORD = 80  # characters


def parse_words(text: str | None) -> list[str]:
    """The words of a text, which commas, semicolons or line ends part; one that is repeated counts once.

    Raises:
      InputError: there are fewer than two, more than `MOST_WORDS`, or one is longer than `LONGEST_WORD`.
    """
    distinct = {}
    for word in re.split(r"[,;\n]", text or ""):
        word = " ".join(word.split())
        if word:
            distinct.setdefault(word.lower(), word)
    words = list(distinct.values())
    if not words:
        raise InputError("No words yet: type what to look for, with commas between the words, such as: zebra, grass")
    if len(words) == 1:
        raise InputError(f"Only one word: add another to tell {words[0]!r} from, such as: {words[0]}, background")
    if len(words) > MOST_WORDS:
        raise InputError(f"{len(words)} words are too many: type at most {MOST_WORDS}")
    for word in words:
        if len(word) > LONGEST_WORD:
            raise InputError(f"{word[:20]}... is too long: a word may have {LONGEST_WORD} characters, with its spaces")
    return words
