import gc
import itertools
import pathlib
import re
import weakref

import numpy as np
import pytest

from clippy_jax.errors import InputError
from clippy_jax.input_pipeline import crops, images, pipeline, training_dataset
from clippy_jax.input_pipeline.pipeline import Batch, TrainingInput, slot_uniforms
from clippy_jax.input_pipeline.resize import crop_and_resize
from tests import programs
from tests.input_pipeline.batches import assert_equal, collected, numbers

ROOT = pathlib.Path(__file__).parents[2]


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
    done = programs.run(["-c", code], environment=programs.WHOLE_END)
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
