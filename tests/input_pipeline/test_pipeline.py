import gc
import itertools
import pathlib
import re
import threading
import time
import weakref

import numpy as np
import pytest
from absl import logging

from clippy_jax.datasets.sample import BadSample
from clippy_jax.errors import InputError
from clippy_jax.input_pipeline import crops, engine, images, pipeline, training_dataset
from clippy_jax.input_pipeline.order import Order
from clippy_jax.input_pipeline.pipeline import Batch, TrainingInput, slot_uniforms
from clippy_jax.input_pipeline.resize import crop_and_resize
from tests import programs

ROOT = pathlib.Path(__file__).parents[2]


def collected(config, start=0, steps=7, process_count=1):
    """The global batches, put together from all processes."""
    inputs = [TrainingInput(config, process, process_count) for process in range(process_count)]
    parts = zip(*(one.batches(start, steps) for one in inputs), strict=True)
    return [Batch(*(np.concatenate(arrays) for arrays in zip(*batches))) for batches in parts]


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others):
        np.testing.assert_array_equal(batch.images, other.images)
        np.testing.assert_array_equal(batch.tokens, other.tokens)


def numbers(training_input, batches):
    """Which photos are in each batch: photo i has the caption "photo i"."""
    ids = training_input.tokenizer.encode([f"photo {i}" for i in range(100)], 16)
    known = {tuple(row): i for i, row in enumerate(ids.tolist())}
    return [[known[tuple(row)] for row in batch.tokens.tolist()] for batch in batches]


def test_a_batch_holds_what_its_samples_make(input_config, shards, photo, encoded):
    """Every image is its photo, decoded, cropped by its slot's random numbers, resized and perhaps mirrored."""
    config = input_config(shards)
    training_input = TrainingInput(config)
    assert training_input.num_samples == 23 and training_input.steps_per_epoch == 3
    assert training_input.left_out == {}
    batches = list(training_input.batches(2, 3))
    for step, batch, photos in zip((2, 3, 4), batches, numbers(training_input, batches)):
        assert batch.images.shape == (6, 32, 32, 3) and batch.images.dtype == np.uint8
        assert batch.tokens.shape == (6, 16) and batch.tokens.dtype == np.int32
        for image, number, uniforms in zip(batch.images, photos, slot_uniforms(0, step, 0, 6).tolist()):
            pixels = images.decode(encoded(photo(number), quality=90))
            box = crops.random_resized_crop(60, 80, config.crop_scale, config.crop_ratio, uniforms[: crops.UNIFORMS])
            expected = crop_and_resize(pixels, box, 32)
            np.testing.assert_array_equal(image, expected[:, ::-1] if uniforms[crops.UNIFORMS] < 0.5 else expected)


def test_the_seed_decides(input_config, shards):
    config = input_config(shards)
    assert_equal(collected(config), collected(config))
    other = collected(input_config(shards, seed=1))
    assert not np.array_equal(collected(config)[0].tokens, other[0].tokens)


def digests(config, steps=4, process_count=1):
    """Of the samples of each step, added up over the processes."""
    sums = [0] * steps
    for process in range(process_count):
        training_input = TrainingInput(config, process, process_count)
        for step, _ in enumerate(training_input.batches(0, steps)):
            sums[step] += training_input.account(step).digest
    return [total % 2**64 for total in sums]


def test_the_digest_of_a_batch_follows_from_its_samples(input_config, shards, write_shard, tmp_path):
    config = input_config(shards, ledger=True)
    alone = digests(config)
    assert len(set(alone)) == 4 and digests(config, process_count=3) == alone
    assert digests(input_config(shards, ledger=True, seed=1)) != alone
    for number, (first, samples) in enumerate(((0, 11), (11, 3), (15, 9))):  # as many as in `shards`, but others
        write_shard(tmp_path / f"{number:05d}.tar", first, samples)
    assert all(one != other for one, other in zip(alone, digests(input_config(tmp_path, ledger=True))))
    assert digests(input_config(shards)) == [0] * 4


def test_one_process_makes_the_whole_batch(input_config, shards):
    config = input_config(shards)
    batch, names = TrainingInput(config, 1, 3).whole_batch(2)
    assert_equal([batch], collected(config, 2, 1))
    photos = numbers(TrainingInput(config), [batch])[0]
    assert [name.rpartition(": ")[2] for name in names] == [f"{photo:09d}.jpg" for photo in photos]


@pytest.mark.parametrize("start", [1, 3, 5])
def test_starting_anywhere_continues_the_run(input_config, shards, start):
    config = input_config(shards)
    assert_equal(collected(config, start, 7 - start), collected(config)[start:])


@pytest.mark.parametrize("process_count", [2, 3, 6])
def test_any_number_of_processes_makes_the_same_batches(input_config, shards, process_count):
    config = input_config(shards)
    assert_equal(collected(config, process_count=process_count), collected(config))


def test_large_photos_make_the_same_batches_anywhere(input_config, tmp_path, write_tar, photo, encoded):
    """They are decoded at a reduced size, which follows from the photo and its crop alone."""
    members = {}
    for i in range(12):
        members |= {f"{i}.jpg": encoded(photo(i, 100 + 20 * i, 150 + 10 * i)), f"{i}.txt": f"photo {i}".encode()}
    config = input_config(write_tar(tmp_path / "0.tar", members))
    batches = collected(config, steps=6)
    assert_equal(collected(config, 2, 4, process_count=3), batches[2:])


def test_a_part_larger_than_a_call(input_config):
    """Slots keep their random numbers however the batch is cut into calls."""
    config = input_config("synthetic", batch_size=300, image_size=8)
    whole = collected(config, 5, 2)
    assert len({image.tobytes() for image in whole[0].images}) > 60
    for process_count in (2, 5):
        assert_equal(collected(config, 5, 2, process_count), whole)


def test_epochs_follow_one_another(input_config, shards):
    training_input = TrainingInput(input_config(shards))
    photos = numbers(training_input, training_input.batches(0, 12))
    epochs = [sum(photos[i : i + 3], []) for i in range(0, 12, 3)]
    assert all(len(set(epoch)) == 18 for epoch in epochs), "a sample comes twice in an epoch"
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert set(sum(epochs, [])) == set(range(23))


def test_augmentation_differs_between_epochs_and_slots(input_config, shards):
    uniforms = np.concatenate([slot_uniforms(0, step, 0, 6) for step in range(20)])
    assert len(np.unique(uniforms)) == uniforms.size
    assert abs(uniforms.mean() - 0.5) < 0.02


def number_of_threads():
    """Of the process, those of TensorFlow included."""
    return len(list(pathlib.Path("/proc/self/task").iterdir()))


def test_the_end_of_a_run_and_an_endless_one(input_config, shards):
    training_input = TrainingInput(input_config(shards))
    assert list(training_input.batches(5, 0)) == []
    assert len(list(training_input.batches(0, 1))) == 1
    threads = number_of_threads()
    endless = training_input.batches(0, None)
    assert len(list(itertools.islice(endless, 50))) == 50
    assert number_of_threads() > threads
    endless.close()
    assert number_of_threads() == threads


def bad_shard(path, write_tar, photo, encoded, good):
    """Good samples behind one of every kind that is odd or bad."""
    cut = encoded(photo(1), quality=90)[:-200]
    samples = {
        "grey.jpg": (encoded(photo(1).convert("L")), "photo 1"),
        "cmyk.jpg": (encoded(photo(2).convert("CMYK")), "photo 2"),
        "rgba.png": (encoded(photo(3).convert("RGBA"), "PNG"), "photo 3"),
        "palette.png": (encoded(photo(4).convert("P"), "PNG"), "photo 4"),
        "webp.webp": (encoded(photo(5), "WEBP"), "photo 5"),
        "disguised.jpg": (encoded(photo(6), "WEBP"), "photo 6"),
        "truncated.jpg": (cut, "photo 90"),
        "undecodable.jpg": (b"<html>gone</html>", "photo 91"),
        "blank.jpg": (encoded(photo(1)), " \n"),
        "captionless.jpg": (encoded(photo(1)), ""),
    }
    samples |= {f"{i}.jpg": (encoded(photo(i)), f"photo {i}") for i in range(7, 7 + good)}
    members = {}
    for name, (image, caption) in samples.items():
        members[name] = image
        members[name.partition(".")[0] + ".txt"] = caption.encode()
    return write_tar(path, members)


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


def test_captions_are_cleaned_if_wanted(input_config, tmp_path, write_tar, photo, encoded):
    members = {"a.jpg": encoded(photo(0)), "a.txt": b"red &amp;amp;  blue"}
    shard = write_tar(tmp_path / "0.tar", members)
    for wanted, text in ((True, "red & blue"), (False, "red &amp;amp;  blue")):
        config = input_config(shard, batch_size=1, text_length=64, clean_captions=wanted)
        training_input = TrainingInput(config)
        (batch,) = training_input.batches(0, 1)
        np.testing.assert_array_equal(batch.tokens, training_input.tokenizer.encode([text], 64))


@pytest.mark.parametrize("flip", [False, True])
def test_flip(input_config, shards, flip):
    """With whole images as crops, an image is its photo or, half the time and only if wanted, its mirror image."""
    config = input_config(shards, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=flip)
    plain = collected(input_config(shards, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False), steps=9)
    mirrored = 0
    for batch, other in zip(collected(config, steps=9), plain):
        same = (batch.images == other.images).all(axis=(1, 2, 3))
        assert (same | (batch.images == other.images[:, :, ::-1]).all(axis=(1, 2, 3))).all()
        mirrored += (~same).sum()
    assert 15 <= mirrored <= 39 if flip else mirrored == 0


def test_synthetic_data(input_config):
    (batch,) = TrainingInput(input_config("synthetic")).batches(123_456, 1)
    assert len({image.tobytes() for image in batch.images}) == 6
    assert (batch.tokens != 0).any(axis=1).all()


@pytest.mark.parametrize(
    "fields, process_count, message",
    [
        ({"batch_size": 8}, 3, "batch_size=8 cannot be divided among 3 processes"),
        ({"batch_size": 0}, 1, "batch_size=0"),
        ({"batch_size": 24}, 1, "holds 23 samples, fewer than config.input.batch_size=24"),
        ({"text_length": 0}, 1, "text_length=0"),
        ({"seed": -1}, 1, "seed"),
        ({"image_size": 0}, 1, "image_size"),
        ({"crop_scale": (0.0, 1.0)}, 1, "crop_scale"),
        ({"crop_scale": (0.5, 1.5)}, 1, "crop_scale"),
        ({"crop_ratio": (2.0, 1.0)}, 1, "crop_ratio"),
        ({"tokenizer": "/nowhere"}, 1, "tokenizer: the folder /nowhere does not exist"),
        ({"train": "/nowhere/{00000..00001}.tar"}, 1, "the folder /nowhere does not exist"),
    ],
)
def test_bad_input_ends_in_one_line(input_config, shards, fields, process_count, message):
    with pytest.raises(InputError, match=message) as error:
        TrainingInput(input_config(**{"train": shards} | fields), 0, process_count)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", ["pass", "raise ValueError('over')", "sys.exit(3)", "batches.close()"])
def test_a_program_ends_whatever_becomes_of_its_batches(shards, input_config, tmp_path, ending):
    config = input_config(shards)
    code = f"""
import sys
import threading
import time
from clippy_jax.config import InputConfig
from clippy_jax.input_pipeline.pipeline import TrainingInput
batches = TrainingInput({config!r}).batches()
next(batches)
{ending}
"""
    done = programs.run(["-c", code])
    assert done.returncode == {"p": 0, "b": 0, "r": 1, "s": 3}[ending[0]], done.stderr
    assert "fatal" not in done.stderr.lower()


def test_an_error_of_ours_keeps_its_kind(input_config, shards, monkeypatch):
    """And one in a later part, which may fail before, does not hide it."""
    training_input = TrainingInput(input_config(shards))
    expected = list(training_input.batches(0, 2))

    def fail_from_step_2(seed, step, first, last):
        if step >= 2:
            raise KeyError(step)
        return slot_uniforms(seed, step, first, last)

    monkeypatch.setattr(pipeline, "slot_uniforms", fail_from_step_2)
    batches = training_input.batches()
    assert_equal([next(batches), next(batches)], expected)
    with pytest.raises(KeyError, match="2"):
        next(batches)


def test_the_dataset_that_users_take(input_config, shards):
    config = input_config(shards)
    dataset = training_dataset(config, start_step=2, num_steps=3)
    images_spec, tokens_spec = dataset.element_spec
    assert (images_spec.shape.as_list(), images_spec.dtype.name) == ([6, 32, 32, 3], "uint8")
    assert (tokens_spec.shape.as_list(), tokens_spec.dtype.name) == ([6, 16], "int32")
    assert dataset.element_spec.images is images_spec
    assert_equal(list(dataset.as_numpy_iterator()), collected(config, 2, 3))
    parts = [training_dataset(config, 2, 3, process, 2).as_numpy_iterator() for process in range(2)]
    joined = [Batch(*(np.concatenate(arrays) for arrays in zip(*part))) for part in zip(*parts, strict=True)]
    assert_equal(joined, collected(config, 2, 3))
    assert_equal(list(dataset.skip(1).take(1).as_numpy_iterator()), collected(config, 3, 1))
    assert_equal(list(dataset.as_numpy_iterator()), collected(config, 2, 3))


def test_the_example_in_the_documentation(input_config, shards, tmp_path, monkeypatch, capsys):
    """As it stands there, with a `configs/shapes.py` that names the data of this test."""
    config = input_config(shards)
    data = {name: getattr(config, name) for name in ("train", "tokenizer", "batch_size", "index_folder")}
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "shapes.py").write_text(f"""
import runpy
def get_config():
    config = runpy.run_path({str(ROOT / "configs" / "shapes.py")!r})["get_config"]()
    config.input.update({data!r})
    return config
""")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "data.md").read_text(), re.DOTALL)
    exec(example, {})
    spec, *batches = capsys.readouterr().out.splitlines()
    assert spec.startswith("Batch(images=TensorSpec(shape=(6, 96, 96, 3), dtype=tf.uint8")
    assert batches == ["(6, 96, 96, 3) (6, 32)"] * 2


def test_what_an_input_has_open_is_let_go_when_nobody_uses_it(shards, input_config):
    """TensorFlow keeps the functions of a dataset for ever; what they read from is not to stay with them."""
    training_input = TrainingInput(input_config(shards))
    for _ in training_input.batches(0, 3):
        pass
    still_there = weakref.ref(training_input)
    del training_input
    gc.collect()
    assert still_there() is None
