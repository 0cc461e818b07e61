"""Texts that share rows of tokens, so that little is spent on padding: most captions are far shorter than the row.

T5 knows only how far tokens are from each other, so a text has the same embedding wherever in a row it stands, as long
as each token attends to tokens of its own segment alone.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

TEXTS_PER_ROW = 8  # at most
PAD = 0  # the token that fills a row up; everything else is a word


class PackedTexts(NamedTuple):
    """Packs of a few texts each, in as many rows as the fullest pack needs (`input_pipeline/text_packing.py`)."""

    tokens: Int[Array, "packs rows L"]
    segment_ids: Int[Array, "packs rows L"]  # of each token: the number of its text in the row, from 1; 0 is padding
    positions: Int[Array, "packs texts"]  # of each text in its pack: TEXTS_PER_ROW * its row + its segment id - 1


def packs_of_one(tokens: Int[Array, "T L"]) -> PackedTexts:
    """Padded texts, each with a row to itself."""
    rows = tokens[:, None]
    return PackedTexts(rows, (rows != PAD).astype(jnp.int32), jnp.zeros((tokens.shape[0], 1), jnp.int32))
