import numpy as np
import pytest

from clippy_jax.input_pipeline.text_packing import fill_rows, find_packing, rounded_rows
from clippy_jax.models.packed_texts import TEXTS_PER_ROW


def random_texts(count: int, longest: int, padded_to: int, seed: int = 0) -> np.ndarray:
    """Random words; one of the texts has `longest` of them."""
    random = np.random.default_rng(seed)
    lengths = random.permutation([longest, *random.integers(1, longest + 1, count - 1)])
    words = random.integers(1, 100, (count, padded_to), dtype=np.int32)
    return np.where(np.arange(padded_to) < lengths[:, None], words, 0)


def unpacked(texts) -> np.ndarray:
    """The texts of packs, padded again, read off rows, segment ids and positions one by one."""
    tokens, segment_ids, text_positions = map(np.asarray, texts)
    length = tokens.shape[2]
    found = []
    for pack in range(len(tokens)):
        for position in text_positions[pack]:
            row, number = divmod(position, TEXTS_PER_ROW)
            (columns,) = np.nonzero(segment_ids[pack, row] == number + 1)
            assert (np.diff(columns) == 1).all()  # side by side: only so are their distances what they were
            text = tokens[pack, row, columns]
            found.append(np.pad(text, (0, length - len(text))))
    assert (tokens != 0).sum() == sum((text != 0).sum() for text in found)  # and there is nothing else
    return np.stack(found)


@pytest.mark.parametrize("texts_per_pack", [1, 2, 8, 48])
def test_every_text_is_whole_and_in_its_place(texts_per_pack):
    tokens = random_texts(48, 20, 20)
    packing = find_packing(tokens, texts_per_pack, microbatches=1)
    texts = fill_rows(packing, packing.rows + 1)
    assert texts.tokens.shape == (48 // texts_per_pack, packing.rows + 1, 20)
    assert all(array.dtype == np.int32 for array in texts)
    np.testing.assert_array_equal(unpacked(texts), tokens)


def test_a_pack_holds_texts_of_one_microbatch():
    tokens = random_texts(24, 9, 9)
    packing = find_packing(tokens, texts_per_pack=4, microbatches=3)
    texts = fill_rows(packing, packing.rows)
    for m in range(3):
        np.testing.assert_array_equal(unpacked(part[m::3] for part in texts), tokens[m::3])


def test_packs_do_not_depend_on_how_many_processes_share_a_batch():
    tokens = random_texts(32, 30, 30)
    whole = fill_rows(find_packing(tokens, 4, 2), 4)
    halves = [fill_rows(find_packing(half, 4, 2), 4) for half in np.split(tokens, 2)]
    for all_packs, *parts in zip(whole, *halves):
        np.testing.assert_array_equal(all_packs, np.concatenate(parts))


def test_captions_fill_a_third_of_the_rows_that_padding_takes():
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(2.75, 0.71, 1024).round(), 2, 77)  # about CC-12M's
    tokens = (np.arange(77) < lengths[:, None]).astype(np.int32)
    packing = find_packing(tokens, 64, 1)
    assert lengths.sum() / 77 <= 16 * packing.rows and rounded_rows(packing.rows, 64) <= 24


def test_no_row_has_more_texts_than_segments():
    one_word = np.zeros((40, 77), np.int32)
    one_word[:, 0] = 7
    packing = find_packing(one_word, 40, microbatches=1)
    assert packing.rows == 5 and packing.segment_id.max() == TEXTS_PER_ROW


def test_rows_come_in_few_numbers():
    assert [rounded_rows(n, 64) for n in (1, 4, 5, 18, 64)] == [4, 4, 8, 20, 64]
    assert [rounded_rows(n, 8) for n in (1, 3, 8)] == [1, 3, 8]
