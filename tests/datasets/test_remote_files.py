"""Shards on a web server and in an object store, as training reads them."""

import email.utils
import http.server
import pathlib
import re
import threading

import fsspec
import numpy as np
import pytest

from clippy_jax.datasets import remote_files, retrieval_pairs
from clippy_jax.datasets.patterns import expand_files
from clippy_jax.datasets.sample import Sample
from clippy_jax.datasets.sources import open_source
from clippy_jax.errors import InputError
from clippy_jax.input_pipeline.pipeline import TrainingInput


class WebServer(http.server.ThreadingHTTPServer):
    """Serves a folder with byte ranges.

    Attributes:
      ranges: whether it knows them.
      failures: how many of the coming reads fail with 503.
      refuses: the status with which it answers everything, 0 for none.
      read: the path of every GET of a file.
      together: reads that wait for each other.
    """

    request_queue_size = 128
    together: threading.Barrier | None = None

    def __init__(self, folder: pathlib.Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.ranges, self.failures, self.refuses, self.read = folder, True, 0, 0, []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.server.folder / self.path.partition("?")[0].lstrip("/")
        if self.server.refuses:
            return self.answer(self.server.refuses, b"")
        if path.is_dir():
            names = sorted(file.name for file in path.iterdir())
            return self.answer(200, "".join(f'<a href="{name}">{name}</a>\n' for name in names).encode())
        if not path.is_file():
            return self.answer(404, b"")
        if self.command == "GET":
            self.server.read.append(path.name)
            if self.server.together:
                self.server.together.wait(timeout=20)
            if self.server.failures:
                self.server.failures -= 1
                return self.answer(503, b"")
        content, asked = path.read_bytes(), re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        modified = {"Last-Modified": email.utils.formatdate(path.stat().st_mtime)}
        if not (asked and self.server.ranges):
            return self.answer(200, content, modified)
        first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
        where = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        return self.answer(206, content[first : last + 1], modified | where)

    def answer(self, status, content, headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache, in which the indexes of remote shards are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fsspec.spec.AbstractFileSystem.clear_instance_cache()
    return tmp_path / "cache" / "clippy_jax" / "shard_indexes"


@pytest.fixture
def web(shards):
    pytest.importorskip("aiohttp")
    with WebServer(pathlib.Path(shards).parent) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.address = f"http://127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def store(shards, monkeypatch):
    """Amazon's S3 as moto plays it, with the shards in a bucket; yields the address of their folder."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    fs.mkdir("bucket")
    for path in sorted(pathlib.Path(shards).parent.glob("*.tar")):
        fs.put_file(str(path), f"bucket/cc12m/{path.name}")
    yield "s3://bucket/cc12m"
    server.stop()


def batches(config, start=0):
    return list(TrainingInput(config).batches(start, 5 - start))


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs):
        for left, right in zip(one, other):
            np.testing.assert_array_equal(left, right)


def test_a_web_server(web, shards, input_config, cache):
    """The batches are those of the same shards on a disk, also continued, while one read in a few fails."""
    expected = batches(input_config(shards))
    config = input_config(f"{web.address}/{{00000..00002}}.tar", index_folder="")
    web.failures = 2
    assert_same(batches(config), expected)
    assert len(list(cache.iterdir())) == 3
    web.failures = 2
    assert_same(batches(config, start=3), expected[3:])
    web.read.clear()
    assert_same(batches(config, start=3), expected[3:])
    assert len(web.read) == 1 + 2 * 6  # the indexes are kept, and a sample is one read
    remote, local = open_source(config).without_images(), open_source(input_config(shards))
    web.read.clear()
    assert remote.read_ahead([3, 20]) == {i: Sample(b"", local[i].caption) for i in (3, 20)}
    assert len(web.read) == 2


def test_an_object_store(store, shards, input_config):
    expected = batches(input_config(shards))
    for pattern in (f"{store}/{{00000..00002}}.tar", f"{store}/*.tar", store, f"{store}/"):
        assert_same(batches(input_config(pattern)), expected)
    with pytest.raises(InputError, match="1 of the 2 files do not exist, the first is s3://bucket/cc12m/00003.tar"):
        expand_files(f"{store}/{{00002..00003}}.tar")
    with pytest.raises(InputError, match="s3://nowhere/.* names no file|s3://nowhere/.*cannot be listed"):
        expand_files("s3://nowhere/")


def test_a_remote_shard_that_was_replaced_is_indexed_again(web, tmp_path, write_shard, input_config):
    web.folder = tmp_path
    config = input_config(f"{web.address}/0.tar", index_folder=str(tmp_path / "indexes"))
    write_shard(tmp_path / "0.tar", 0, 2)
    assert len(open_source(config)) == 2
    write_shard(tmp_path / "0.tar", 0, 4)
    assert len(open_source(config)) == 4


def test_local_and_remote_shards_are_joined_in_order(web, shards, input_config):
    local = shards.replace("00002", "00000")
    source = open_source(input_config(f"{local}::{web.address}/00001.tar::{shards.replace('00000..', '00002..')}"))
    samples = source.read_ahead([0, 12, 13, 20])
    assert {index: sample.caption for index, sample in samples.items()} == {12: "photo 12", 13: "photo 13"}
    assert [source[index].caption for index in range(23)] == [f"photo {index}" for index in range(23)]
    assert source.name(12).startswith(f"{web.address}/00001.tar: ")


def test_the_samples_of_a_batch_are_read_at_the_same_time(web, input_config):
    source = open_source(input_config(f"{web.address}/00000.tar"))
    web.together = threading.Barrier(11)
    assert len(source.read_ahead(range(11))) == 11


def test_retrieval_reads_remote_shards(web):
    pairs = retrieval_pairs.read(f"{web.address}/00001.tar")
    assert pairs.captions == ("photo 11", "photo 12", "photo 13") and pairs.open_image(1).size == (80, 60)


def test_large_blocks_are_read_ahead(web):
    (file,) = expand_files(f"{web.address}/00001.tar")
    content, read = (web.folder / "00001.tar").read_bytes(), remote_files.ReadAhead(file, "--x", block=1000)
    for offset, length in ((0, 512), (512, 400), (900, 512), (5000, 3000), (0, 10), (len(content) - 5, 512)):
        assert read(offset, length) == content[offset : offset + length]
    assert len(web.read) == 1 + 5  # and the first look


@pytest.mark.parametrize(
    "change, pattern, says",
    [
        ({}, "{address}/{{00002..00005}}.tar", "3 of the 4 files do not exist, the first is {address}/00003.tar"),
        ({"ranges": False}, "{address}/00000.tar", "00000.tar: its server does not serve byte ranges"),
        ({"refuses": 403}, "{address}/00000.tar", r"00000.tar may not be read \(403.*; check the credentials"),
        ({"failures": 99}, "{address}/00000.tar", "00000.tar cannot be read: 503"),
        ({}, "{address}/*.csv", "names no file"),
        ({}, "{address}/pairs.csv", "1 of the 1 files do not exist"),
        ({}, "{address}/00000.tar.index", "do not exist"),
        ({}, "nonsense://bucket/0.tar", "nonsense://bucket/0.tar cannot be read .Protocol not known: nonsense"),
        ({}, "http://127.0.0.1:9/0.tar", "http://127.0.0.1:9/0.tar cannot be read"),
        ({}, "gs://bucket/{{3..1}}.tar", "the range .3..1. .* is empty"),
    ],
)
def test_what_cannot_be_read_ends_in_one_line(web, monkeypatch, input_config, change, pattern, says):
    monkeypatch.setattr(remote_files, "_SECONDS_TO_FIND", 0.01)
    monkeypatch.setattr(remote_files, "_SECONDS_TO_INDEX", 0.01)
    for name, value in change.items():
        setattr(web, name, value)
    with pytest.raises(InputError, match=says.format(address=web.address)) as error:
        open_source(input_config(pattern.format(address=web.address), index_folder=""))
    assert str(error.value).startswith("config.input.train: ") and "\n" not in str(error.value)


def test_a_remote_table_is_refused(web, tmp_path, input_config):
    web.folder = tmp_path
    (tmp_path / "pairs.csv").write_text("image,caption\n")
    with pytest.raises(InputError, match="pairs.csv' is remote; tars are read from there, tables from disks"):
        open_source(input_config(f"{web.address}/pairs.csv"))


@pytest.mark.parametrize("protocol, package", [("s3", "s3fs"), ("gs", "gcsfs"), ("https", "aiohttp")])
def test_a_package_that_is_missing_is_named(monkeypatch, protocol, package):
    def absent(address):
        raise ImportError(f"Install something to access {protocol}")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(InputError, match=f"{protocol}:// needs a package .*; pip install {package}"):
        expand_files(f"{protocol}://bucket/0.tar")


def test_what_stands_behind_the_question_mark_is_not_told(web, input_config):
    source = open_source(input_config(f"{web.address}/00001.tar?signature=secret"))
    assert "secret" not in source.name(0)
    web.refuses = 403
    with pytest.raises(Exception, match="403") as error:
        source[0]
    assert "secret" not in str(error.value)
