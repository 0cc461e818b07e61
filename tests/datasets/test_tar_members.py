import os
import tarfile

import pytest

from clippy_jax.datasets import tar_members


def listed(path):
    with open(path, "rb") as file:
        return list(tar_members.members(file.fileno()))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_of_tarfile(tmp_path, write_tar, form):
    names = ["000000000.jpg", "folder/ünï.txt", "d/" * 60 + "long.jpg", "empty.txt"]
    if form != tarfile.USTAR_FORMAT:
        names.append("x" * 300 + ".txt")
    path = write_tar(tmp_path / "a.tar", {name: os.urandom(i * 700) for i, name in enumerate(reversed(names))}, form)
    with tarfile.open(path) as tar:
        expected = [(member.name, member.offset_data, member.size) for member in tar]
    assert listed(path) == expected


def test_folders_and_links_are_no_members(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a")
    (tmp_path / "in" / "b.txt").symlink_to("a.txt")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "in", "in")
    assert [member.name for member in listed(tmp_path / "a.tar")] == ["in/a.txt"]


def test_sizes_beyond_octal_digits():
    assert tar_members._number(b"00000001750\0") == 1000
    assert tar_members._number(tarfile.itn(10**11, 12, tarfile.GNU_FORMAT)) == 10**11


@pytest.mark.parametrize("content", [b"", b"no tar" * 1000, b"\x1f\x8b" + bytes(5000)])
def test_what_is_no_tar(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(tar_members.NotATar):
        listed(tmp_path / "a.tar")
