"""Damaged training data: tars, their indexes, tables, images and patterns."""

import contextlib
import pathlib

import numpy as np

from clippy_jax.datasets.patterns import expand_files
from clippy_jax.datasets.sample import BadSample
from clippy_jax.datasets.tables import TableSource
from clippy_jax.datasets.tars import shard_index
from clippy_jax.datasets.tars.shards import ShardSource
from clippy_jax.input_pipeline.crops import Box
from clippy_jax.input_pipeline.images import training_image
from tests.fuzz.damage import damaged
from tests.fuzz.faults import Target
from tests.inputs import encode, make_photo, make_tar

MAX_PIXELS = 10**6
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")


def with_checksum(header: bytes) -> bytes:
    """A tar header whose checksum is right whatever else is wrong."""
    blank = header[:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def tar(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    """An archive of each format with damage anywhere, often in a header with a checksum that holds."""
    long = "x" * int(random.choice([1, 90, 300]))
    members = {f"{long}{i}.{kind}": b"good" * int(random.integers(400)) for i in range(4) for kind in ("jpg", "txt")}
    form = int(random.integers(1 if len(long) > 200 else 0, 3))
    content = bytearray(make_tar(folder / "whole.tar", members, form).read_bytes())
    if random.random() < 0.7:
        start = 512 * int(random.integers(len(content) // 512))
        content[start : start + 512] = with_checksum(
            damaged(content[start : start + 512], random)[:512].ljust(512, b"\0")
        )
        return bytes(content)
    return damaged(bytes(content), random)


def index(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    """The cached index of a shard, damaged."""
    shard = make_tar(folder / "shard.tar", {f"{i}.{kind}": b"good" for i in range(9) for kind in ("jpg", "txt")})
    shard_index.load_or_build([shard], "")
    return damaged((folder / "shard.tar.index.npz").read_bytes(), random)


def table(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    """A table of each kind, damaged."""
    (folder / "0.jpg").touch()
    separator = "\t,;"[random.integers(3)]
    rows = [f'0.jpg{separator}"caption, {i} ""quoted"""' for i in range(30)]
    return damaged(
        "\r\n".join([f"filepath{separator}title", *rows]).encode(("utf-8", "utf-16")[random.integers(2)]), random
    )


def image(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    """An image of each format, damaged, most often in its header."""
    kind = _FORMATS[random.integers(len(_FORMATS))]
    content = encode(make_photo(int(random.integers(4)), 40, 30), kind)
    head = int(random.choice([64, 700, len(content)]))
    return damaged(content[:head], random) + content[head:]


def pattern(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    """A path with braces and wildcards, as `config.input.train` takes it."""
    parts = [
        "{0..9}",
        "{a..c..0}",
        "{",
        "}",
        "{0..999999999}",
        "{9..1}",
        "*",
        "[",
        "~",
        "..",
        "/",
        ",",
        "\\",
        "{{1,2},3}",
        "\0",
        "é",
    ]
    return "".join(random.choice(parts, random.integers(1, 8))).encode()


def _read_tar(content: bytes, folder: pathlib.Path) -> None:
    (folder / "0.tar").write_bytes(content)
    _read_all(ShardSource([folder / "0.tar"], str(folder / "indexes")))


def _read_index(content: bytes, folder: pathlib.Path) -> None:
    (folder / "shard.tar.index.npz").write_bytes(content)
    source = ShardSource([folder / "shard.tar"])
    assert [tuple(source[i]) for i in range(len(source))] == [(b"good", "good")] * 9


def _read_table(content: bytes, folder: pathlib.Path) -> None:
    (folder / "pairs.csv").write_bytes(content)
    _read_all(TableSource(folder / "pairs.csv"))


def _read_image(content: bytes, folder: pathlib.Path) -> None:
    pixels = training_image(content, lambda height, width: Box(0, 0, height, width), 8, MAX_PIXELS)
    assert pixels.shape == (8, 8, 3)


def _read_pattern(content: bytes, folder: pathlib.Path) -> None:
    expand_files(f"{folder}/{content.decode()}")


def _read_all(source) -> None:
    for i in range(len(source)):
        with contextlib.suppress(BadSample):
            source[i]


TARGETS = (
    Target("tar", tar, _read_tar),
    Target("index", index, _read_index),
    Target("table", table, _read_table),
    Target("image", image, _read_image),
    Target("pattern", pattern, _read_pattern),
)
