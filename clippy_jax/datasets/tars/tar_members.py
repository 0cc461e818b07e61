"""The files in a tar archive, from its headers alone, in one pass and little memory, whatever was done to it.

Archives from the web are cut, patched and joined. Python's `tarfile` parses a header; walking through such an archive,
it hangs on some and stops early on others. Here the search goes on, after what is no header, block by block to the next
sound one (headers carry a checksum), and no number in a header is believed beyond the size of the file.
"""

import enum
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_ABOUT_THE_NEXT = (*_EXTENSIONS, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE)
_LONGEST_EXTENSION = 2**16  # bytes that a long name or a pax header may take
_PAX_RECORD = re.compile(rb"(\d{1,9}) ([^=\n]+)=")


class Member(NamedTuple):
    """A regular file."""

    name: str
    offset: int  # of its content, in bytes
    length: int


class Gap(enum.Enum):
    """What lies between members."""

    END = "end"  # the zeros that end an archive; another one may follow (`cat a.tar b.tar`)
    DAMAGED = "damaged"  # something else, with a member or an end behind it
    TRUNCATED = "truncated"  # the file ends without the end of an archive


def members(read: Callable[[int, int], bytes], size: int) -> Iterator[Member | Gap]:
    """Yields the files of an archive in its order, and the gaps between them.

    Args:
      read: gives the bytes from an offset on, so many, fewer where the file ends.
      size: of the file in bytes.
    """
    offset, last = 0, None  # the gap that the last block belongs to
    extended: dict[bytes, bytes] = {}  # what an extension header says about the next member
    while offset < size:
        block = read(offset, tarfile.BLOCKSIZE)
        start = offset + len(block)
        if not block:
            break  # the file has shrunk
        if not block.strip(b"\0"):
            if last is not Gap.END:
                yield from (last, Gap.END) if last else (Gap.END,)
            offset, last, extended = start, Gap.END, {}
            continue
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            kind, length = header.type, int(extended.pop(b"size", header.size))
            if not 0 <= length <= size - start:
                raise ValueError("a member beyond the end")
            if kind in _EXTENSIONS:
                extended |= _extension(kind, read(start, min(length, _LONGEST_EXTENSION)), length)
        except (ValueError, tarfile.HeaderError):
            offset, last, extended = start, Gap.DAMAGED, {}
            continue
        if last is Gap.DAMAGED:
            yield last
        blocks = 0 if kind in _WITHOUT_CONTENT else -(-length // tarfile.BLOCKSIZE)
        offset, last = start + blocks * tarfile.BLOCKSIZE, None
        if header.isreg() and not header.issparse():
            name = extended[b"path"].decode("utf-8", "surrogateescape") if b"path" in extended else header.name
            yield Member(name, start, length)
        if kind not in _ABOUT_THE_NEXT:
            extended = {}
    if last is not Gap.END:
        yield Gap.TRUNCATED


def _extension(kind: bytes, content: bytes, length: int) -> dict[bytes, bytes]:
    """The records of a pax header, or GNU's long name as one; raises `ValueError` where they are unsound."""
    if length != len(content):
        raise ValueError("a long extension")
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {b"path": content.split(b"\0")[0]}
    records, position = {}, 0
    while match := _PAX_RECORD.match(content, position):
        end = position + int(match[1])
        if not match.end() < end <= len(content) or content[end - 1 : end] != b"\n":
            raise ValueError("a pax record of another length")
        records[match[2]] = content[match.end() : end - 1]
        position = end
    if content[position:].strip(b"\0"):
        raise ValueError("no pax record")
    return records
