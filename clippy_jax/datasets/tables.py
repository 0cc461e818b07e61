"""Tables of image paths and captions as a source."""

import copy
import os
import pathlib

from clippy_jax.datasets import patterns, table_rows
from clippy_jax.datasets.open_files import read_whole
from clippy_jax.datasets.sample import BadCounts, Sample, Source, digest_of
from clippy_jax.errors import InputError, reading

ENDINGS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".gz")
_LOOKED_UP = 100  # images: if none of them is there, the paths are wrong


class TableSource(Source):
    """A table with a column of image paths, absolute or relative to its folder, and one of captions.

    Of several captions of an image, in a list, the first is trained on.
    """

    def __init__(self, table: pathlib.Path, image_column: str = "", caption_column: str = ""):
        """Reads the table.

        Args:
          image_column, caption_column: as `table_rows.read` takes them.

        Raises:
          InputError: it is no text, lacks a column, or none of its first images exists.
        """
        self.folder = table.parent
        self.paths: list[str] = []
        self.captions: list[str] = []
        self.further: dict[int, tuple[str, ...]] = {}  # by index, the captions of a list
        self.left_out = BadCounts()
        self._opens_images = True
        with reading(f"{patterns.KEY}: {table}"):
            for number, (path, captions, flaw) in table_rows.read(table, image_column, caption_column):
                if flaw:
                    self.left_out.note(flaw, f"{table}, row {number}")
                    continue
                if len(captions) > 1:
                    self.further[len(self.paths)] = captions[1:]
                self.paths.append(path)
                self.captions.append(captions[0])
        self._check_paths(table)

    def _check_paths(self, table: pathlib.Path) -> None:
        looked_up = range(min(len(self.paths), _LOOKED_UP))
        if looked_up and not any(os.path.isfile(self.path(index)) for index in looked_up):
            raise InputError(
                f"{patterns.KEY}: {table} names the image {self.paths[0]}, which does not exist"
                f"{f', nor do those of its first {len(looked_up)} rows' if len(looked_up) > 1 else ''}; "
                f"paths must be absolute or relative to {self.folder}"
            )

    def path(self, index: int) -> str:
        """Of the image file of a sample."""
        path = self.paths[index].removeprefix("file://")
        return os.path.join(self.folder, os.path.expanduser(path) if path.startswith("~/") else path)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        image = read_whole(self.path(index), self.folder) if self._opens_images else b""
        return Sample(image, self.captions[index])

    def images_digest(self) -> str:
        """As `Source` does: by the names of the files."""
        return digest_of(map(os.path.basename, self.paths))

    def without_images(self) -> "TableSource":
        """As `Source` does: no image file is opened."""
        captions = copy.copy(self)
        captions._opens_images = False
        return captions

    def name(self, index: int) -> str:
        """Where a sample lies, for messages."""
        return self.path(index)
