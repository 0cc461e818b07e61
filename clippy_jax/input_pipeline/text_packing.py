"""Fills rows of tokens with whole texts, pack by pack.

A pack is a fixed number of texts that stand next to each other in a microbatch, so what shares a row does not depend on
the number of devices or processes, and no text leaves its device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from clippy_jax.models.packed_texts import PAD, TEXTS_PER_ROW, PackedTexts


class Packing(NamedTuple):
    """Which part of which row each text takes."""

    tokens: Int32[np.ndarray, "packs texts L"]  # the texts, padded
    row: Int32[np.ndarray, "packs texts"]
    start: Int32[np.ndarray, "packs texts"]  # the token of the row at which the text begins
    segment_id: Int32[np.ndarray, "packs texts"]  # its number in the row, from 1
    rows: int  # that the fullest pack needs


def find_packing(tokens: Int32[np.ndarray, "B L"], texts_per_pack: int, microbatches: int) -> Packing:
    """Gives every text its part of one of the rows of its pack.

    Microbatch m takes the texts m, m + `microbatches`, ... (`training/microbatches.py`), and `texts_per_pack` of them
    after the other are a pack. Pack p · `microbatches` + m is the p-th one of microbatch m.
    """
    length = tokens.shape[1]
    packs = tokens.reshape(-1, texts_per_pack, microbatches, length).swapaxes(1, 2).reshape(-1, texts_per_pack, length)
    segments = np.array([_first_fit(lengths, length) for lengths in (packs != PAD).sum(axis=2).tolist()], np.int32)
    row, start, segment_id = np.moveaxis(segments, 2, 0)
    return Packing(packs, row, start, segment_id, int(row.max()) + 1)


def _first_fit(lengths: Sequence[int], row_length: int) -> list[tuple[int, int, int]]:
    """(row, start, segment id) of each text: the longest first, each into the first row that still has room."""
    used: list[int] = []
    texts: list[int] = []
    segments = [(0, 0, 0)] * len(lengths)
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = (r for r, u in enumerate(used) if u + lengths[i] <= row_length and texts[r] < TEXTS_PER_ROW)
        row = next(fitting, len(used))
        if row == len(used):
            used.append(0)
            texts.append(0)
        segments[i] = row, used[row], texts[row] + 1
        used[row] += lengths[i]
        texts[row] += 1
    return segments


def rounded_rows(rows: int, texts_per_pack: int) -> int:
    """At least so many rows, out of few different numbers: each number is a program of its own to compile."""
    step = max(1, texts_per_pack // 16)
    return -(-rows // step) * step


def fill_rows(packing: Packing, rows: int) -> PackedTexts:
    """The packs with so many rows each, at least `packing.rows`; NumPy arrays."""
    pack, text, position = np.nonzero(packing.tokens)
    target = pack, packing.row[pack, text], packing.start[pack, text] + position
    tokens = np.zeros((len(packing.tokens), rows, packing.tokens.shape[2]), np.int32)
    segment_ids = np.zeros_like(tokens)
    tokens[target] = packing.tokens[pack, text, position]
    segment_ids[target] = packing.segment_id[pack, text]
    return PackedTexts(tokens, segment_ids, packing.row * TEXTS_PER_ROW + packing.segment_id - 1)
