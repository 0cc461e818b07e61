import dataclasses
import hashlib
import json
import os
import signal

import pytest

from clippy_jax.errors import InputError
from clippy_jax.shapes import dataset as dataset_module
from clippy_jax.shapes.dataset import write_dataset


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def small(settings):
    return dataclasses.replace(settings, train_pairs=20, evaluation_images=8, image_size=16)


def test_same_bytes_from_any_number_of_workers(dataset, settings, tmp_path):
    write_dataset(tmp_path / "again", settings, workers=1)
    assert digests(tmp_path / "again") == digests(dataset)


def test_more_pairs_begin_with_the_same_ones(dataset, settings, tmp_path):
    write_dataset(tmp_path / "more", dataclasses.replace(settings, train_pairs=501, evaluation_images=4), workers=1)
    assert (tmp_path / "more/train/00000.tar").read_bytes() == (dataset / "train/00000.tar").read_bytes()
    assert (tmp_path / "more/tokenizer/spiece.model").read_bytes() == (dataset / "tokenizer/spiece.model").read_bytes()


def test_another_seed_makes_other_pictures(small, tmp_path):
    write_dataset(tmp_path / "a", small, workers=1)
    write_dataset(tmp_path / "b", dataclasses.replace(small, seed=4), workers=1)
    first, second = digests(tmp_path / "a"), digests(tmp_path / "b")
    pictures = [name for name in first if name.endswith((".jpg", ".tar"))]
    assert pictures and all(first[name] != second[name] for name in pictures)


def test_no_two_pictures_are_the_same(dataset):
    pictures = [digest for name, digest in digests(dataset).items() if name.endswith(".jpg")]
    assert len(set(pictures)) == len(pictures)


def test_the_record_holds_the_settings(dataset, settings):
    assert json.loads((dataset / "dataset.json").read_text()) == dataclasses.asdict(settings)
    assert not (dataset / dataset_module.UNFINISHED_RECORD).exists()


def test_a_complete_data_set_is_left_alone(dataset, settings):
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    assert not write_dataset(dataset, settings)
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before


def test_an_interrupted_data_set_is_started_anew(small, tmp_path, monkeypatch):
    write_dataset(tmp_path / "whole", small, workers=1)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(dataset_module.waterbirds_tree, "write_images", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_dataset(tmp_path / "cut", small, workers=1)
    assert not (tmp_path / "cut/dataset.json").exists()
    (tmp_path / "cut/train/00000.tar").write_bytes(b"half a tar")
    (tmp_path / "cut/voc/JPEGImages/stray.jpg").write_bytes(b"")

    assert write_dataset(tmp_path / "cut", small, workers=1)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def be_killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_ends_the_rendering(small, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module.webdataset_shards, "write_shard", be_killed)
    with pytest.raises(InputError, match="a process that renders was killed"):
        write_dataset(tmp_path / "cut", small, workers=2)
    assert not (tmp_path / "cut/dataset.json").exists()


def test_other_settings_or_foreign_files_are_not_overwritten(dataset, settings, small, tmp_path):
    before = digests(dataset)
    with pytest.raises(InputError, match="seed 3 instead of 9"):
        write_dataset(dataset, dataclasses.replace(settings, seed=9))
    assert digests(dataset) == before

    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write_dataset(tmp_path, small)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

    with pytest.raises(InputError, match="is a file"):
        write_dataset(tmp_path / "notes.txt", small)
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        write_dataset(tmp_path / "notes.txt" / "data", small)

    (tmp_path / "other").mkdir()
    (tmp_path / "other/dataset.json").write_text('{"name": "MNIST"}')
    with pytest.raises(InputError, match="choose another --output"):
        write_dataset(tmp_path / "other", small)
