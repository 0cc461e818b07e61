import os
import shutil
import stat
import subprocess
import tarfile

import numpy as np
import pytest

from clippy_jax.datasets.tars import shard_index
from clippy_jax.errors import InputError


def captions_of(path):
    content = path.read_bytes()
    index = shard_index.build(path)
    return [content[o : o + n].decode() for o, n in zip(index.caption_offsets, index.caption_lengths)]


def test_index_points_at_images_and_captions(tmp_path, write_tar):
    members = {"a.jpg": b"A" * 700, "a.json": b"{}", "a.txt": b"first", "b.txt": b"second", "b.webp": b"B" * 3}
    path = write_tar(tmp_path / "0.tar", members)
    index = shard_index.build(path)
    content = path.read_bytes()
    assert [content[o : o + n] for o, n in zip(index.image_offsets, index.image_lengths)] == [b"A" * 700, b"BBB"]
    assert captions_of(path) == ["first", "second"]
    assert index.left_out == {}


def test_incomplete_samples_are_left_out_by_cause(tmp_path, write_tar):
    members = {
        "a.jpg": b"A",  # no caption at all
        "b.jpg": b"B",
        "b.txt": b"",
        "c.txt": b"no image",
        "d.jpg": b"D",
        "d.txt": b"good",
        "e/d.jpg": b"D",  # the same name in another folder is another sample
        "e/d.txt": b"good too",
    }
    path = write_tar(tmp_path / "0.tar", members)
    assert captions_of(path) == ["good", "good too"]
    assert shard_index.build(path).left_out == {"captionless": 2, "imageless": 1}


@pytest.mark.parametrize("keep", [-1, -700])
def test_a_truncated_tar_gives_its_complete_samples(tmp_path, write_tar, keep):
    members = {f"{i}.{kind}": kind.encode() * 400 for i in range(3) for kind in ("jpg", "txt")}
    path = write_tar(tmp_path / "0.tar", members)
    with open(path, "rb") as file:
        end = max(m.offset_data + m.size for m in tarfile.open(fileobj=file))
    os.truncate(path, end + keep)
    index = shard_index.build(path)
    assert len(index.image_offsets) == 2
    assert index.left_out == {"truncated": 1}


def header(name: bytes, size: bytes, kind: bytes, magic: bytes = b"ustar\x0000") -> bytes:
    """A header block of a tar, written by hand where `tarfile` refuses to write it."""
    fields = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size + b"00000000000\0"
    block = (fields + b" " * 8 + kind).ljust(257, b"\0") + magic
    block = block.ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def sample(key: bytes, endings: tuple[bytes, bytes] = (b".jpg", b".txt"), **fields) -> bytes:
    parts = [header(key + end, b"00000000004\0", b"0", **fields) + b"good".ljust(512, b"\0") for end in endings]
    return b"".join(parts)


@pytest.mark.parametrize(
    "bad",
    [
        header(b"x", b"00000000020\0", b"x") + b"0 path=evil\n".ljust(512, b"\0"),  # a pax record of length 0
        header(b"b.jpg", b"\xff" * 12, b"0"),  # a negative size, which leads back to where it came from
        header(b"b.jpg", b"\xff" * 10 + b"\xfc\x00", b"0"),  # -1024: back to the header before
        header(b"b.jpg", b"garbage!!!!\0", b"0"),
        header(b"b.jpg", b"77777777777\0", b"0"),
        b"garbage".ljust(512, b"!"),
    ],
)
def test_what_lies_behind_a_damaged_header_is_found(tmp_path, bad):
    (tmp_path / "0.tar").write_bytes(sample(b"a") + bad + sample(b"c") + bytes(1024))
    assert captions_of(tmp_path / "0.tar") == ["good", "good"]
    assert shard_index.build(tmp_path / "0.tar").left_out == {"damaged": 1}


END = bytes(1024)
FLIPPED = bytes([sample(b"b")[0] ^ 1]) + sample(b"b")[1:]  # the image's header
MACOS = header(b"./._a.jpg", b"00000000004\0", b"0") + b"\0\5\x16\7".ljust(512, b"\0")


@pytest.mark.parametrize(
    "content, samples, left_out",
    [
        (sample(b"a") + sample(b"b") + END, 2, {}),
        (sample(b"a") + sample(b"b"), 2, {"truncated": 1}),  # cut where a sample ends
        (sample(b"a") + END + sample(b"b") + END, 2, {}),  # cat a.tar b.tar
        (sample(b"a") + END * 9 + sample(b"a") + END, 2, {}),  # the same twice
        (sample(b"a") + sample(b"a") + END, 2, {}),  # appended with tar -r
        (sample(b"a") + FLIPPED + sample(b"c") + END, 2, {"damaged": 1}),
        (sample(b"a") + b"!" * 512 + sample(b"b") + b"!" * 700 + bytes(324) + END, 2, {"damaged": 2}),
        (b"!" * 5120 + sample(b"b") + END, 1, {"damaged": 1}),
        (sample(b"a") + sample(b"b")[:1024] + b"!" * 512 + sample(b"b")[1024:] + END, 2, {"damaged": 1}),
        (sample(b"a") + sample(b"b")[:1024] + END + sample(b"b")[1024:] + END, 1, {"captionless": 1, "imageless": 1}),
        (MACOS + MACOS.replace(b"jpg", b"txt") + sample(b"a") + END, 1, {"damaged": 1}),  # its checksum is wrong
        (MACOS + sample(b"a") + END, 1, {}),
        (sample(b"a.1") + sample(b"a.2") + END, 0, {"named with a second dot": 2}),
        (sample(b"a") + sample(b"a.mask") + END, 1, {}),  # one more image of a complete sample
        (sample(b"a", (b".JPG", b".Txt")) + END, 1, {}),
        (sample(b"a", magic=bytes(8)) + END, 1, {}),  # a v7 archive
        (END, 0, {}),
        (bytes(10240), 0, {}),
    ],
)
def test_nothing_is_lost_without_a_count(tmp_path, content, samples, left_out):
    (tmp_path / "0.tar").write_bytes(content)
    index = shard_index.build(tmp_path / "0.tar")
    assert (len(index.image_offsets), index.left_out) == (samples, left_out)
    assert captions_of(tmp_path / "0.tar") == ["good"] * samples


def test_a_member_of_three_gigabytes_is_too_large(tmp_path):
    with open(tmp_path / "0.tar", "wb") as file:
        file.write(header(b"a.jpg", b"%011o\0" % (3 << 30), b"0"))
        file.seek(512 + (3 << 30))
        file.write(sample(b"a")[1024:] + sample(b"b") + END)
    index = shard_index.build(tmp_path / "0.tar")
    assert captions_of_sparse(tmp_path / "0.tar", index) == ["good"] and index.left_out == {"too large": 1}


def captions_of_sparse(path, index):
    with open(path, "rb") as file:
        return [os.pread(file.fileno(), n, o).decode() for o, n in zip(index.caption_offsets, index.caption_lengths)]


@pytest.mark.parametrize(
    "program", ["--format=v7", "--format=oldgnu", "--format=gnu", "--format=pax", "--format=ustar"]
)
def test_what_the_tar_program_writes(tmp_path, program):
    for name in ("a.jpg", "a.txt"):
        (tmp_path / name).write_text("good")
    subprocess.run(["tar", program, "-cf", tmp_path / "0.tar", "-C", tmp_path, "./a.jpg", "./a.txt"], check=True)
    assert captions_of(tmp_path / "0.tar") == ["good"] and shard_index.build(tmp_path / "0.tar").left_out == {}


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_index_is_built_again(tmp_path, write_shard, seed):
    """Bytes changed, the end cut off, numbers that lead out of the shard or do not belong together."""
    shard, random = write_shard(tmp_path / "0.tar", 0, 3), np.random.default_rng(seed)
    (whole,) = shard_index.load_or_build([shard], "")
    file = tmp_path / "0.tar.index.npz"
    good = file.read_bytes()
    with np.load(file) as stored:
        arrays = dict(stored)
    for attempt in range(12):
        content = bytearray(good)
        if attempt < 8:
            content[random.integers(len(content))] ^= 1 << random.integers(8)
        file.write_bytes(content if attempt != 8 else content[: random.integers(len(content))])
        if attempt > 8:
            name = str(random.choice(sorted({*arrays} - {"causes"})))
            wrong = (arrays[name][:-1], arrays[name] + arrays[name].dtype.type(2**30), -arrays[name] - 1)[attempt % 3]
            np.savez(file, **arrays | {name: wrong})
        (again,) = shard_index.load_or_build([shard], "")
        for one, other in zip(whole[:4], again[:4]):
            np.testing.assert_array_equal(one, other)


def test_an_index_that_claims_to_be_huge_takes_no_memory(tmp_path, write_shard):
    shard = write_shard(tmp_path / "0.tar", 0, 3)
    shard_index.load_or_build([shard], "")
    file = tmp_path / "0.tar.index.npz"
    file.write_bytes(file.read_bytes().replace(b"(3,), }" + b" " * 16, b"(4611686018427387904,), }"[:23].ljust(23)))
    assert len(shard_index.load_or_build([shard], "")[0].image_offsets) == 3


def test_a_folders_long_name_is_not_the_next_files(tmp_path):
    name = b"f" * 200
    long = header(b"././@LongLink", b"00000000311\0", b"L") + (name + b"/").ljust(512, b"\0")
    (tmp_path / "0.tar").write_bytes(long + header(name[:100], b"00000000000\0", b"5") + sample(b"a") + bytes(1024))
    assert captions_of(tmp_path / "0.tar") == ["good"]
    assert shard_index.build(tmp_path / "0.tar").left_out == {}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tar(tmp_path, write_tar, form):
    keys = ["000000000", "folder/ünï", "d/" * 60 + "long"] + ["x" * 300] * (form != tarfile.USTAR_FORMAT)
    members = {f"{key}.{kind}": f"{kind} {key}".encode() for key in keys for kind in ("jpg", "txt")}
    path = write_tar(tmp_path / "0.tar", members, form)
    assert captions_of(path) == [f"txt {key}" for key in keys]


def test_folders_and_links_are_no_samples(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.txt", "a.jpg"):
        (tmp_path / "in" / name).write_text(name)
    (tmp_path / "in" / "b.txt").symlink_to("a.txt")
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.add(tmp_path / "in", "in")
    assert captions_of(tmp_path / "0.tar") == ["a.txt"]
    assert shard_index.build(tmp_path / "0.tar").left_out == {}


@pytest.mark.parametrize("content", [b"", b"no tar" * 1000, b"\x1f\x8b" + b"\1" * 5000])
def test_what_is_no_tar_is_named(tmp_path, content):
    (tmp_path / "0.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"0\.tar is no tar file"):
        shard_index.build(tmp_path / "0.tar")


def test_indexes_are_cached_beside_the_shard_and_rebuilt_when_it_changes(tmp_path, write_shard, monkeypatch):
    shards = [write_shard(tmp_path / f"{i}.tar", i, 2) for i in range(3)]
    first = shard_index.load_or_build(shards, "")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        name for i in range(3) for name in (f"{i}.tar", f"{i}.tar.index.npz")
    )

    built = []
    build = shard_index.build
    monkeypatch.setattr(shard_index, "build", lambda shard: built.append(shard) or build(shard))
    again = shard_index.load_or_build(shards, "")
    assert built == []
    for old, new in zip(first, again):
        for a, b in zip(old[:4], new[:4]):
            np.testing.assert_array_equal(a, b)
        assert old.left_out == new.left_out

    write_shard(shards[1], 0, 5)
    assert [len(index.image_offsets) for index in shard_index.load_or_build(shards, "")] == [2, 5, 2]
    os.utime(shards[2], ns=(0, 0))
    shutil.copy(tmp_path / "0.tar", tmp_path / "0.tar.index.npz")  # not an index
    shard_index.load_or_build(shards, "")
    assert sorted(built) == [shards[0], shards[1], shards[2]]


def test_index_folder_keeps_shards_of_the_same_name_apart(tmp_path, write_shard):
    shards = []
    for samples, name in enumerate(("a", "b" * 200), start=1):  # the longer path is no name of a file
        (tmp_path / name).mkdir()
        shards.append(write_shard(tmp_path / name / "0.tar", 0, samples))
    for _ in range(2):
        indexes = shard_index.load_or_build(shards, str(tmp_path / "new" / "cache"))
        assert [len(index.image_offsets) for index in indexes] == [1, 2]
    assert len(list((tmp_path / "new" / "cache").iterdir())) == 2
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["0.tar"]


def test_processes_share_the_work(tmp_path, write_shard, monkeypatch):
    """Process 1 of 3 starts with shards 1 and 4, and takes from the cache what others have built meanwhile."""
    shards = [write_shard(tmp_path / f"{i}.tar", i, 1) for i in range(6)]
    monkeypatch.setattr(shard_index, "_THREADS", 1)
    build, built = shard_index.build, []

    def build_beside_others(shard):
        if not built:
            for other in (0, 3):
                index_file = shard_index._index_file(shards[other], "")
                shard_index._write(build(shards[other]), shard_index._signature(shards[other]), index_file)
        built.append(shards.index(shard))
        return build(shard)

    monkeypatch.setattr(shard_index, "build", build_beside_others)
    assert len(shard_index.load_or_build(shards, "", process_index=1, process_count=3)) == 6
    assert built == [1, 4, 2, 5]


def test_a_shard_that_is_no_tar_is_named(tmp_path, write_shard):
    write_shard(tmp_path / "0.tar", 0, 1)
    (tmp_path / "1.tar").write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(InputError, match=r"1\.tar is no tar file"):
        shard_index.load_or_build([tmp_path / "0.tar", tmp_path / "1.tar"], "")
    assert not list(tmp_path.glob(".*")), "a temporary file is left"


def test_index_folder_that_cannot_be_made(tmp_path, write_shard):
    (tmp_path / "file").touch()
    shard = write_shard(tmp_path / "0.tar", 0, 1)
    with pytest.raises(InputError, match="config.input.index_folder: cannot make"):
        shard_index.load_or_build([shard], str(tmp_path / "file" / "cache"))


@pytest.mark.parametrize("made", [False, True])
def test_a_shard_that_is_gone_before_it_is_indexed_is_named(tmp_path, write_shard, made):
    shard = write_shard(tmp_path / "0.tar", 0, 1)
    if made:
        shard_index.load_or_build([shard], "")
    shard.unlink()
    with pytest.raises(InputError, match=r"0\.tar cannot be read \(No such file or directory"):
        shard_index.load_or_build([shard], "")


def test_others_may_read_an_index(tmp_path, write_shard):
    shard = write_shard(tmp_path / "0.tar", 0, 1)
    shard_index.load_or_build([shard], "")
    mode = stat.S_IMODE((tmp_path / "0.tar.index.npz").stat().st_mode)
    assert mode == stat.S_IMODE(shard.stat().st_mode)
