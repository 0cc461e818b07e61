import pytest

from clippy_jax.demo.words import parse_words
from clippy_jax.errors import InputError


@pytest.mark.parametrize(
    "text, words",
    [
        ("zebra, grass", ["zebra", "grass"]),
        (" space   shuttle ;\nsky,, ", ["space shuttle", "sky"]),
        ("Zebra, grass, zebra, ZEBRA", ["Zebra", "grass"]),
        ("naïve café, ☃", ["naïve café", "☃"]),
        (", ".join(f"word {index}" for index in range(50)), [f"word {index}" for index in range(50)]),
    ],
)
def test_words_are_parted_trimmed_and_told_once(text, words):
    assert parse_words(text) == words


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "No words yet"),
        (" , ;\n", "No words yet"),
        ("zebra", "Only one word: add another to tell 'zebra' from"),
        (",".join(map(str, range(500))), "500 words are too many: type at most 50"),
        ("zebra, " + "x" * 81, "xxxxxxxxxxxxxxxxxxxx... is too long"),
    ],
)
def test_what_cannot_be_told_apart_is_said(text, message):
    with pytest.raises(InputError, match=message):
        parse_words(text)
