import concurrent.futures
import os
import resource

import pytest

from clippy_jax.datasets.open_files import OpenFiles
from clippy_jax.datasets.patterns import expand_files
from clippy_jax.datasets.sample import StorageAway
from clippy_jax.datasets.tars.shards import ShardSource


@pytest.fixture
def source(shards, tmp_path):
    return ShardSource(expand_files(shards), str(tmp_path))


def test_every_sample_is_read_from_any_thread(source, photo, encoded):
    assert len(source) == 23
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        samples = list(pool.map(source.__getitem__, list(range(23)) * 20))
    for i, sample in enumerate(samples):
        assert sample == (encoded(photo(i % 23), quality=90), f"photo {i % 23}")
    assert source.name(22).endswith("/00002.tar: 000000022.jpg")


def test_more_shards_than_files_that_may_be_open(source, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (512, 512))
    assert [source[i].caption for i in range(23)] == [f"photo {i}" for i in range(23)]
    assert not source._files._open


def test_the_limit_of_open_files_is_raised_for_each_data_set(tmp_path):
    (tmp_path / "0.tar").write_bytes(b"content")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        data_sets = [OpenFiles([tmp_path / "0.tar"] * 520) for _ in range(2)]
        assert all(files.read(i, 0, 7) == b"content" for files in data_sets for i in range(520))
        assert [len(files._open) for files in data_sets] == [520, 520]
        del data_sets
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_shard_that_shrinks_goes_or_is_replaced_is_read_when_it_is_back(tmp_path, write_shard):
    shards = [write_shard(tmp_path / f"{i}.tar", i, 2) for i in range(4)]
    source = ShardSource(shards)
    good = [source[i] if i < 6 else None for i in range(8)]  # the last one is not open yet
    content = [shard.read_bytes() for shard in shards]
    os.truncate(shards[0], 600)
    os.remove(shards[1])  # and read on from the open file
    write_shard(shards[3], 0, 5)
    for index, message in (
        (0, "0.tar has (become shorter|600 bytes)"),
        (6, "3.tar has .* bytes and had .* at the start"),
    ):
        for _ in range(2):
            with pytest.raises(StorageAway, match=message):
                source[index]
    assert source[2] == good[2]
    for shard, old in zip(shards, content):
        shard.write_bytes(old)
    assert [source[i] for i in range(6)] == good[:6] and source[6].caption == "photo 3"


def test_long_captions_are_read_in_part(tmp_path, write_tar):
    shard = write_tar(tmp_path / "0.tar", {"a.jpg": b"A", "a.txt": b"word " * 28_000})
    assert len(ShardSource([shard])[0].caption) == 2**16


def test_empty_captions_are_counted_over_all_shards(tmp_path, write_tar):
    shards = [write_tar(tmp_path / f"{i}.tar", {"a.jpg": b"A", "b.jpg": b"B", "b.txt": b"b"}) for i in range(2)]
    source = ShardSource(shards)
    assert len(source) == 2 and source.left_out == {"captionless": 2}
    assert str(source.left_out) == f"2 captionless; the first: {shards[0]}, {shards[1]}"


def test_captions_that_are_no_utf8_are_kept(tmp_path, write_tar):
    shard = write_tar(tmp_path / "0.tar", {"a.jpg": b"A", "a.txt": b"caf\xe9"})
    assert ShardSource([shard])[0].caption == "caf�"
