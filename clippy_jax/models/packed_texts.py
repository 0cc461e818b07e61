"""Texts that share rows of tokens, so that little is spent on padding.

Most captions are short: padded to 77 tokens, three quarters of CC-12M's would be padding. T5 knows no places, only the
distances of tokens from each other, so a text is the same wherever in a row it stands, as long as it sees nothing of
its neighbours.
"""

from typing import NamedTuple

from jaxtyping import Array, Int

TEXTS_PER_ROW = 8  # at most


class PackedTexts(NamedTuple):
    """Packs of a few texts each, in as many rows as the fullest pack needs (`input_pipeline/text_packing.py`)."""

    tokens: Int[Array, "packs rows L"]
    slots: Int[Array, "packs rows L"]  # of each token: which of its row's texts it belongs to, from 1; 0 is padding
    places: Int[Array, "packs texts"]  # of each text of the pack: TEXTS_PER_ROW times its row, plus its slot less 1
