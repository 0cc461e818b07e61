"""One image-caption pair as it lies in a data set, and what is raised and counted where it cannot be used."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

_NAMES = 3  # that a message shows


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


class StorageAway(Exception):
    """A file cannot be read now and may be later: the sample is not bad, and is to be read again after a pause."""


class BadCounts(Counter[str]):
    """How many samples cannot be used, by cause, and the names of the first of them.

    As text it is "7 captionless, 1 truncated; the first: /data/3.tar, /data/9.tar".
    """

    def __init__(self) -> None:
        super().__init__()
        self.first: list[str] = []

    def note(self, cause: str, name: object, count: int = 1) -> None:
        """Adds samples of a cause; `name` says where they lie."""
        self[cause] += count
        if len(self.first) < _NAMES and str(name) not in self.first:
            self.first.append(str(name))

    def note_all(self, others: "BadCounts") -> None:
        """Adds those of another source."""
        self.update(others)
        self.first = [*self.first, *others.first][:_NAMES]

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {cause}" for cause, count in self.items())
        return f"{counts}; the first: {', '.join(self.first)}" if self.first else counts


class Source(Protocol):
    """A data set with random access. Reading is thread-safe and gives the same sample for the same index always.

    Attributes:
      left_out: the samples of the data set that are not among the `len(source)`.
    """

    left_out: BadCounts

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Reads one sample; raises `BadSample` where it cannot be used and `StorageAway` where it may be later."""
        ...

    def name(self, index: int) -> str:
        """Where a sample lies, for messages."""
        ...

    def read_ahead(self, indices: Sequence[int]) -> dict[int, Sample]:
        """Samples that come over a network, all of these at the same time; none where reading one by one is as fast."""
        return {}

    def images_digest(self) -> str:
        """Tells other images, or the same in another order, from these; wherever they lie, and whatever the captions
        say."""
        ...

    def without_images(self) -> "Source":
        """The same whose samples may have no bytes of an image, where that saves reading them."""
        return self


def digest_of(texts: Iterable[str]) -> str:
    """SHA-256 of texts in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(f"{text}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class Concatenation(Source):
    """Several sources as one: the samples of the first, then those of the second, ..."""

    def __init__(self, sources: Sequence[Source]):
        self.sources = tuple(sources)
        self.left_out = BadCounts()
        for source in self.sources:
            self.left_out.note_all(source.left_out)

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def __getitem__(self, index: int) -> Sample:
        source, index = self._find(index)
        return source[index]

    def name(self, index: int) -> str:
        """Where a sample lies, for messages."""
        source, index = self._find(index)
        return source.name(index)

    def read_ahead(self, indices: Sequence[int]) -> dict[int, Sample]:
        """As `Source` does, source by source."""
        samples, first = {}, 0
        for source in self.sources:
            inside = [index - first for index in indices if first <= index < first + len(source)]
            samples |= {first + index: sample for index, sample in source.read_ahead(inside).items()}
            first += len(source)
        return samples

    def images_digest(self) -> str:
        """As `Source` does: those of all sources, one after the other."""
        return digest_of(f"{len(source)} {source.images_digest()}" for source in self.sources)

    def without_images(self) -> "Source":
        """As `Source` does."""
        return Concatenation([source.without_images() for source in self.sources])

    def _find(self, index: int) -> tuple[Source, int]:
        for source in self.sources:
            if index < len(source):
                return source, index
            index -= len(source)
        raise IndexError(index)
