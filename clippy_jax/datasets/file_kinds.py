"""What a file is that was given for another, by its first bytes, for messages."""

_KINDS = (
    (0, b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"),
    (0, b"\xfd7zXZ", "compressed with xz: unpack it first"),
    (0, b"BZh", "compressed with bzip2: unpack it first"),
    (0, b"PK\3\4", "a zip archive or a spreadsheet: unpack it, or save it as CSV"),
    (0, b"PAR1", "a Parquet file: save it as CSV, or have img2dataset write tars"),
    (0, b"ARROW1", "an Arrow file: save it as CSV"),
    (0, b"\x89HDF", "an HDF5 file: save it as CSV"),
    (0, b"\xff\xd8\xff", "a JPEG"),
    (0, b"\x89PNG", "a PNG"),
    (257, b"ustar", "a tar archive: name it .tar, and unpack it where it is compressed"),
)
BYTES = 512  # that `kind_of` wants to see


def kind_of(start: bytes) -> str:
    """What begins so, and what to do about it; "" where it is not known here."""
    return next((kind for at, magic, kind in _KINDS if start.startswith(magic, at)), "")
