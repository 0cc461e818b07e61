"""The files in a tar archive, from its headers alone, in one pass and little memory, whatever was done to it.

Archives from the web are cut, patched and joined; `tarfile` hangs on some of them and stops early on others. Here the
search goes on, after what is no header, block by block to the next sound one (headers carry a checksum), and no number
in a header is believed beyond the size of the file.
"""

import enum
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

_BLOCK = 512  # bytes
_REGULAR = (b"0", b"\0", b"7")
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes
_PAX, _GNU_NAME = b"x", b"L"
_EXTENSIONS = (_PAX, _GNU_NAME)
_ABOUT_THE_NEXT = (*_EXTENSIONS, b"K", b"g")
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


def members(file: int, size: int) -> Iterator[Member | Gap]:
    """Yields the files of an archive in its order, and the gaps between them.

    Args:
      file: an open file descriptor.
      size: of the file in bytes.
    """
    offset, last = 0, None  # the gap that the last block belongs to
    extended: dict[bytes, bytes] = {}  # what an extension header says about the next member
    while offset < size:
        block = os.pread(file, _BLOCK, offset)
        start = offset + len(block)
        if not block:
            break  # the file has shrunk
        if not block.strip(b"\0"):
            if last is not Gap.END:
                yield from (last, Gap.END) if last else (Gap.END,)
            offset, last, extended = start, Gap.END, {}
            continue
        try:
            name, kind, length = _header(block)
            length = int(extended.pop(b"size", length))
            if not 0 <= length <= size - start:
                raise ValueError("a member beyond the end")
            if kind in _EXTENSIONS:
                extended |= _extension(kind, os.pread(file, min(length, _LONGEST_EXTENSION), start), length)
        except ValueError:
            offset, last, extended = start, Gap.DAMAGED, {}
            continue
        if last is Gap.DAMAGED:
            yield last
        offset, last = start + (0 if kind in _WITHOUT_CONTENT else -(-length // _BLOCK) * _BLOCK), None
        name = extended.get(b"path", name)
        if kind in _REGULAR and not name.endswith(b"/"):  # a folder of a v7 archive
            yield Member(name.decode("utf-8", "surrogateescape"), start, length)
        if kind not in _ABOUT_THE_NEXT:
            extended = {}
    if last is not Gap.END:
        yield Gap.TRUNCATED


def _header(block: bytes) -> tuple[bytes, bytes, int]:
    """Name, type and length of a member; raises `ValueError` for what is no header."""
    claimed = _number(block[148:156])
    unsigned = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if claimed != unsigned and claimed != unsigned - 256 * sum(byte > 127 for byte in block):  # old programs' is signed
        raise ValueError("bad checksum")
    name, prefix = block[:100].split(b"\0")[0], block[345:500].split(b"\0")[0]
    if prefix and block[257:263] == b"ustar\0":  # GNU and v7 archives have something else there
        name = prefix + b"/" + name
    return name, block[156:157], _number(block[124:136])


def _number(field: bytes) -> int:
    if field[:1] == b"\x80":  # GNU's form of large numbers
        return int.from_bytes(field[1:], "big")
    return int(field.split(b"\0")[0].strip() or b"0", 8)


def _extension(kind: bytes, content: bytes, length: int) -> dict[bytes, bytes]:
    """The records of a pax header, or GNU's long name as one; raises `ValueError` where they are unsound."""
    if length != len(content):
        raise ValueError("a long extension")
    if kind == _GNU_NAME:
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
