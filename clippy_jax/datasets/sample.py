"""One image-caption pair as it lies in a data set, and what is raised where it cannot be used."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Sample(NamedTuple):
    """An image-caption pair before decoding, cleaning and tokenisation."""

    image: bytes  # an encoded image file: JPEG, PNG, WebP, ...
    caption: str


class BadSample(Exception):
    """A sample that cannot be used; training goes on with another in its place.

    Attributes:
      cause: a word or two to count it under: "undecodable", "truncated", ...
    """

    def __init__(self, cause: str):
        super().__init__(cause)
        self.cause = cause


class Source(Protocol):
    """A data set with random access. Reading is thread-safe and gives the same sample for the same index always.

    Attributes:
      left_out: how many samples of the data set are not among the `len(source)`, by cause.
    """

    left_out: dict[str, int]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Reads one sample; raises BadSample where it cannot be read."""
        ...


class Concatenation:
    """Several sources as one: the samples of the first, then those of the second, ..."""

    def __init__(self, sources: Sequence[Source]):
        self.sources = tuple(sources)
        self.left_out = {}
        for source in self.sources:
            for cause, count in source.left_out.items():
                self.left_out[cause] = self.left_out.get(cause, 0) + count

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def __getitem__(self, index: int) -> Sample:
        for source in self.sources:
            if index < len(source):
                return source[index]
            index -= len(source)
        raise IndexError(index)
