"""Files in object stores and on web servers (`s3://`, `gs://`, `https://`, ...), read by byte ranges through fsspec."""

import concurrent.futures
import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from clippy_jax.datasets.open_files import wait_for_storage
from clippy_jax.datasets.sample import StorageAway
from clippy_jax.errors import InputError, reading, reason

# What fsspec needs for a protocol; it names the packages of others itself.
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
# Where stores tell of a file's version, in what fsspec tells of it.
_VERSIONS = ("ETag", "etag", "generation", "LastModified", "Last-Modified", "mtime", "last_modified")
_THREADS = 16  # a look at a file waits for the network
_SECONDS_TO_FIND = 20.0  # that a store may be away at the start; an address may be wrong
_SECONDS_TO_INDEX = 300.0


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file that was there when it was looked up."""

    address: str  # as it was given
    size: int  # bytes
    version: int  # another number for other content, as far as the store tells
    fs: Any = dataclasses.field(repr=False)  # `fsspec.AbstractFileSystem`

    def __str__(self) -> str:
        return _shown(self.address)

    @property
    def name(self) -> str:
        """The last part of the address."""
        return pathlib.PurePosixPath(str(self)).name

    @property
    def suffix(self) -> str:
        """Its ending, with the dot."""
        return pathlib.PurePosixPath(str(self)).suffix

    @property
    def index_name(self) -> str:
        """A name for a local file about this one."""
        return f"{self.name}-{hashlib.sha256(str(self).encode()).hexdigest()[:16]}"


def is_remote(name: str) -> bool:
    """Whether a path is an address."""
    return bool(re.match(r"[a-z][a-z0-9+.-]*://", name, re.I))


def find(names: Sequence[str], key: str) -> list[RemoteFile]:
    """The files of some addresses, in order; `*` and folders are listed where the store can, and sorted by name.

    Args:
      names: addresses of one protocol.
      key: the configuration field that names them.

    Raises:
      InputError: a package for the protocol is missing, a file does not exist, or the store cannot be asked.
    """
    fs = _file_system(names[0], key)
    listed = [address for name in names for address in _listed(fs, name, key)]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda address: _look_up(fs, address, key), listed))
    missing = [address for address, file in zip(listed, found) if file is None]
    if missing:
        first = _shown(missing[0])
        raise InputError(f"{key}: {len(missing)} of the {len(listed)} files do not exist, the first is {first}")
    files = [file for file in found if file is not None]
    ReadAhead(files[0], key, block=1)(0, 1)  # a server may send whole files whatever it is asked for
    return files


class RemoteFiles:
    """Thread-safe reads from many remote files; `OpenFiles` is the same for local ones."""

    def __init__(self, files: Sequence[RemoteFile]):
        """Reads nothing yet."""
        self._files = files

    def read(self, index: int, offset: int, length: int) -> bytes:
        """Reads a stretch of one file; errors as of `read_all`."""
        return self.read_all([(index, offset, length)])[0]

    def read_all(self, stretches: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """Reads stretches (index, offset, length) at the same time.

        Raises:
          StorageAway: one of them cannot be read now.
          InputError: the server does not serve byte ranges.
        """
        if not stretches:
            return []
        files = [self._files[index] for index, _, _ in stretches]
        starts, ends = [start for _, start, _ in stretches], [start + length for _, start, length in stretches]
        addresses = [file.fs._strip_protocol(file.address) for file in files]
        try:
            contents = files[0].fs.cat_ranges(addresses, starts, ends, on_error="return")
        except Exception as error:  # the network, the store and its library raise what they like
            contents = [error] * len(files)
        for file, content, start, end in zip(files, contents, starts, ends):
            if isinstance(content, Exception):
                raise StorageAway(f"{file} cannot be read: {_shown(reason(content))}") from content
            if len(content) > end - start:
                raise InputError(f"{file}: its server does not serve byte ranges; copy the file to a disk")
            if len(content) < end - start:
                raise StorageAway(f"{file} has become shorter")
        return contents


class ReadAhead:
    """Reads from one remote file that mostly go forward, in large blocks; waits for a store that is away."""

    def __init__(self, file: RemoteFile, key: str, block: int = 2**22):
        """Reads nothing yet.

        Args:
          file: the file.
          key: names its configuration field.
          block: bytes that are read at least.
        """
        self._files, self._size, self._key, self._block_size = RemoteFiles([file]), file.size, key, block
        self._start, self._block = 0, b""

    def __call__(self, offset: int, length: int) -> bytes:
        """A stretch of the file, shorter where the file ends."""
        length = min(length, self._size - offset)
        if not self._start <= offset <= offset + length <= self._start + len(self._block):
            size = min(max(length, self._block_size), self._size - offset)
            try:
                self._block = wait_for_storage(lambda: self._files.read(0, offset, size), _SECONDS_TO_INDEX)
            except InputError as error:
                raise InputError(f"{self._key}: {error}") from error
            self._start = offset
        return self._block[offset - self._start : offset - self._start + length]


def _file_system(address: str, key: str) -> Any:
    import fsspec  # here, since local files need none of it

    protocol = address.partition("://")[0].lower()
    try:
        with reading(f"{key}: {address}"):
            return fsspec.core.url_to_fs(address)[0]
    except InputError as error:
        if not isinstance(error.__cause__, ImportError):
            raise
        package = _PACKAGES.get(protocol)
        advice = f"pip install {package}" if package else reason(error.__cause__)
        raise InputError(f"{key}: {protocol}:// needs a package that is not installed; {advice}") from error


def _listed(fs: Any, name: str, key: str) -> list[str]:
    """The addresses that one names: itself, those that fit its `*`, or the tars in a folder."""
    plain = name.partition("?")[0]
    if "*" not in plain and "[" not in plain and not name.endswith("/") and pathlib.PurePosixPath(plain).suffix:
        return [name]
    pattern = name if "*" in plain or "[" in plain else f"{name.rstrip('/')}/*.tar"
    with reading(f"{key}: {name}", "give the addresses, as in .../{00000..01242}.tar", "cannot be listed"):
        found = sorted(fs.unstrip_protocol(path) for path in fs.glob(pattern))
    found = [address for address in found if not address.rpartition("/")[2].startswith(".")]
    if not found:
        raise InputError(f"{key}: {name} names no file; give addresses, as in .../{{00000..01242}}.tar")
    return found


def _look_up(fs: Any, address: str, key: str) -> RemoteFile | None:
    """The file, or None where there is none."""
    shown = f"{key}: {_shown(address)}"

    def info() -> dict[str, Any] | None:
        try:
            return fs.info(fs._strip_protocol(address))
        except Exception as error:
            # Whatever a web server says, fsspec makes "not found" of it.
            told = error.__cause__ if type(error.__cause__).__module__.startswith("aiohttp") else error
            status = getattr(told, "status", None)
            if isinstance(told, FileNotFoundError) or status in (404, 410):
                return None
            if isinstance(told, PermissionError) or status in (401, 403):
                raise InputError(f"{shown} may not be read ({_shown(reason(told))}); check the credentials") from error
            raise StorageAway(f"{shown} cannot be read: {_shown(reason(told))}") from error

    about = wait_for_storage(info, _SECONDS_TO_FIND)
    if about is None:
        return None
    if about.get("type", "file") != "file" or not isinstance(about.get("size"), int):
        raise InputError(f"{shown} is no file whose size the server tells; copy it to a disk")
    told = repr([about[name] for name in _VERSIONS if name in about])
    version = int.from_bytes(hashlib.sha256(told.encode()).digest()[:7])
    return RemoteFile(address, about["size"], version, fs)


def _shown(text: str) -> str:
    """Addresses without what stands behind a question mark, which may be a key that nobody else shall read."""
    return re.sub(r"(://[^\s'\"?]+)\?[^\s'\"]*", r"\1", text)
