import threading
import time

import numpy as np
import pytest
from absl import logging

from clippy_jax.datasets.sample import BadSample
from clippy_jax.errors import InputError
from clippy_jax.input_pipeline import engine, images
from clippy_jax.input_pipeline.order import Order
from clippy_jax.input_pipeline.pipeline import TrainingInput
from tests.input_pipeline.batches import assert_equal, bad_shard, collected, numbers


def test_odd_samples_are_used_and_bad_ones_replaced(input_config, tmp_path, write_tar, photo, encoded):
    config = input_config(bad_shard(tmp_path / "0.tar", write_tar, photo, encoded, good=6), batch_size=15)
    training_input = TrainingInput(config)
    assert training_input.num_samples == 15 and training_input.left_out == {"captionless": 1}
    (photos,) = numbers(training_input, training_input.batches(0, 1))
    assert set(photos) == set(range(1, 13)), "a good sample is missing or a bad one is in"
    skipped = training_input.skipped
    assert set(skipped) == {"truncated", "undecodable", "captionless"}
    assert sum(skipped.values()) >= 3
    assert_equal(collected(config, 1, 4, process_count=3), collected(config, 0, 5)[1:])


def test_bad_samples_shift_nothing(input_config, shards, monkeypatch):
    """The good samples of a run are those of a run without bad ones, in the same slots with the same pixels."""
    config = input_config(shards)
    good = collected(config)
    decode, calls = images.decode, []
    monkeypatch.setattr(images, "decode", lambda data, *limit: calls.append(data) or decode(data))
    collected(config, steps=1)
    victims = set(calls[:2])

    def fail_on_victims(data, *limit):
        if data in victims:
            raise BadSample("undecodable")
        return decode(data)

    monkeypatch.setattr(images, "decode", fail_on_victims)
    replaced = 0
    for batch, other in zip(collected(config), good):
        changed = (batch.images != other.images).any(axis=(1, 2, 3))
        replaced += changed.sum()
        np.testing.assert_array_equal(batch.tokens[~changed], other.tokens[~changed])
    assert 2 <= replaced <= 6, "seven steps are two epochs and a step: each victim comes two or three times"


def test_a_batch_of_bad_samples_only(input_config, tmp_path, write_tar, photo, encoded):
    members = {}
    for i in range(20):
        members |= {f"{i}.jpg": encoded(photo(i)) if i >= 18 else b"bad", f"{i}.txt": f"photo {i}".encode()}
    training_input = TrainingInput(input_config(write_tar(tmp_path / "0.tar", members), batch_size=2))
    photos = numbers(training_input, training_input.batches(0, 10))
    assert set(sum(photos, [])) == {18, 19}
    assert training_input.skipped["undecodable"] >= 18


def test_what_no_memory_is_left_for_is_a_bad_sample(input_config, shards, monkeypatch):
    decode, calls = images.decode, []

    def fail_once(data, *limit):
        calls.append(data)
        if len(calls) == 1:
            raise MemoryError
        return decode(data)

    monkeypatch.setattr(images, "decode", fail_once)
    training_input = TrainingInput(input_config(shards))
    assert len(list(training_input.batches(0, 2))) == 2
    assert training_input.skipped == {"too large": 1}


def test_nothing_but_bad_samples_ends_in_one_line(input_config, tmp_path, write_tar):
    members = {f"{i}.{kind}": b"bad" for i in range(6) for kind in ("jpg", "txt")}
    training_input = TrainingInput(input_config(write_tar(tmp_path / "0.tar", members)))
    with pytest.raises(
        InputError, match=r"100 samples in a row are bad \(100 undecodable; the first: .*0\.tar: \d\.jpg"
    ):
        next(training_input.batches(0, None))


def partly_bad(path, write_tar, photo, encoded, bad, of=40):
    members = {}
    for i in range(of):
        members |= {f"{i}.jpg": b"bad" if i < bad else encoded(photo(i)), f"{i}.txt": f"photo {i}".encode()}
    return write_tar(path, members)


@pytest.mark.parametrize("bad, stops", [(2, False), (24, True)])
def test_more_bad_samples_than_allowed_end_the_run(input_config, tmp_path, write_tar, photo, encoded, bad, stops):
    shard = partly_bad(tmp_path / "0.tar", write_tar, photo, encoded, bad)
    training_input = TrainingInput(input_config(shard, batch_size=40, max_bad_fraction=0.3))
    if not stops:
        assert len(list(training_input.batches(0, 10))) == 10
        assert sum(training_input.skipped.values()) >= 20
        return
    with pytest.raises(
        InputError, match=r"of \d+ samples read so far .* allows: \d+ undecodable; the first: /.*0.tar: \d+.jpg, "
    ):
        list(training_input.batches(0, 10))


def test_more_left_out_than_allowed_ends_before_the_first_step(input_config, tmp_path, write_tar, photo, encoded):
    members = {f"{i}.jpg": encoded(photo(i)) for i in range(10)} | {f"{i}.txt": b"red" for i in range(6)}
    shard = write_tar(tmp_path / "0.tar", members)
    assert TrainingInput(input_config(shard, max_bad_fraction=0.4)).num_samples == 6
    with pytest.raises(
        InputError, match="4 of 10 samples in the data .* allows: 4 captionless; the first: /.*0.tar; mend"
    ):
        TrainingInput(input_config(shard, max_bad_fraction=0.3))


def test_images_with_more_pixels_than_allowed_are_bad(input_config, tmp_path, write_tar, photo, encoded):
    members = {}
    for i in range(12):
        size = (80, 60) if i % 2 else (90, 60)
        members |= {f"{i}.jpg": encoded(photo(i, *size), ("PNG", "JPEG")[i // 6]), f"{i}.txt": f"photo {i}".encode()}
    config = input_config(write_tar(tmp_path / "0.tar", members), batch_size=12, max_pixels=80 * 60)
    training_input = TrainingInput(config)
    (photos,) = numbers(training_input, training_input.batches(0, 1))
    assert set(photos) <= {1, 3, 5, 7, 9, 11} and training_input.skipped["too large"] >= 6


def test_storage_that_is_away_for_a_moment_changes_no_batch(input_config, write_shard, tmp_path, monkeypatch):
    """Nor any count: the samples that were read before are read again."""
    said = []  # what the log says at most once a minute, another test included
    monkeypatch.setattr(logging, "log_every_n_seconds", lambda level, text, seconds, *args: said.append(text % args))
    shard = write_shard(tmp_path / "0.tar", 0, 12)
    config = input_config(shard)
    expected = collected(config, steps=8)
    training_input = TrainingInput(config)
    shard.rename(tmp_path / "away.tar")
    back = threading.Timer(0.5, (tmp_path / "away.tar").rename, [shard])
    back.start()
    assert_equal(list(training_input.batches(0, 8)), expected)
    assert not back.is_alive() and training_input.skipped == {}
    assert any("0.tar cannot be read: No such file or directory; trying again" in line for line in said)


def test_storage_that_stays_away_ends_in_one_line(input_config, write_shard, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "PATIENCE", 0.3)
    shard = write_shard(tmp_path / "0.tar", 0, 12)
    training_input = TrainingInput(input_config(shard))
    shard.unlink()
    with pytest.raises(InputError, match=r"0\.tar cannot be read: No such file .*; start again when it can be read"):
        next(training_input.batches())


def test_nobody_waits_for_storage_once_the_run_ends(input_config, write_shard, tmp_path):
    shards = [write_shard(tmp_path / f"{i}.tar", 20 * i, 20) for i in range(2)]
    seed = next(
        seed for seed in range(99) if [Order(40, 1, seed).indices(step)[0] < 20 for step in range(2)] == [True, False]
    )
    batches = TrainingInput(input_config(f"{tmp_path}/*.tar", batch_size=1, seed=seed)).batches()
    shards[1].unlink()
    next(batches)
    time.sleep(0.3)  # the second step's sample is waited for
    start = time.monotonic()
    batches.close()
    assert time.monotonic() - start < 10
