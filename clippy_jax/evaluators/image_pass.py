"""The loop of every evaluation: plan → batches on the mesh → the measure's own step → what it gives, on the host."""

import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import PIL.Image
import tqdm
from jax.sharding import Mesh
from jaxtyping import Int32, UInt8

from clippy_jax.datasets.vocabulary import IGNORED_LABEL
from clippy_jax.evaluators.evaluator import Feeding
from clippy_jax.inference import Model, label_maps
from clippy_jax.input_pipeline import evaluation_batches, evaluation_image
from clippy_jax.input_pipeline.evaluation_batches import PADDING, Batch, Read, ReadFailures
from clippy_jax.mesh import replicated

Size = tuple[int, int]  # width and height in pixels


class ImagePass:
    """One way through the images of a data set.

    Args:
      names: of the images, for messages.
      read: the arrays of one image (`evaluation_batches.Read`).
      groups: the images that go together, by number, with a blank row of theirs.
      feeding: how many rows a batch has; each group's last is padded.
      known_unreadable: images that need not be tried.
    """

    def __init__(
        self,
        names: Sequence[str | pathlib.Path],
        read: Read,
        groups: Sequence[tuple[Sequence[int], evaluation_batches.Sample]],
        feeding: Feeding,
        known_unreadable: Sequence[int] = (),
    ):
        number = np.array(PADDING, np.int32)  # each row's image, so that all processes know which rows were read
        self._read = lambda index: (*read(index), np.array(index, np.int32))
        self._batches: list[Batch] = []
        for indices, blank in groups:
            self._batches += evaluation_batches.split(indices, feeding.batch_size, (*blank, number))
        self._failures = ReadFailures(names, self._read)
        self._failures.unreadable[list(known_unreadable)] = True
        self._images = len(names)
        self._progress = feeding.progress
        self.unreadable: tuple[str, ...] = ()  # complete after the last batch

    def outputs(
        self, model: Model, step: Callable[..., Any], title: str
    ) -> Iterator[tuple[Int32[np.ndarray, "B"], Any]]:
        """Yields, for each batch, the images in its rows and what `step` makes of it, as NumPy arrays.

        A row that is padding or could not be read is `PADDING`. The same everywhere, however many devices and
        processes share the work. The device is busy with the next batch meanwhile.

        Args:
          model: its mesh shares out each batch.
          step: called with the arrays that `read` returns, batched; returns arrays on the devices.
          title: of the bar.

        Raises:
          InputError: as `evaluation_batches.ReadFailures.agree`.
        """
        self._failures.agree()
        started = None
        with tqdm.tqdm(total=self._images, desc=title, unit="image", disable=not self._progress) as bar:
            loaded = evaluation_batches.load(self._batches, self._read, model.mesh, self._failures)
            for batch, (*arrays, numbers) in zip(self._batches, loaded, strict=True):
                previous, started = started, _gather((numbers, step(*arrays)), model.mesh)
                if previous is not None:
                    yield jax.tree.map(np.asarray, previous)
                bar.update(len(batch.rows) - batch.rows.count(PADDING))
        self.unreadable = self._failures.agree()
        if started is not None:
            yield jax.tree.map(np.asarray, started)

    def per_image(self, model: Model, step: Callable[..., Any], title: str) -> tuple:
        """As `outputs`, of all images that could be read at once: which they are, and what `step` gives for each.

        `step` returns an array [B, ...] or a tuple of such.
        """
        batches = list(self.outputs(model, step, title))
        numbers, given = jax.tree.map(lambda *parts: np.concatenate(parts), *batches)
        counted = numbers != PADDING
        return numbers[counted], jax.tree.map(lambda array: array[counted], given)


@functools.partial(jax.jit, static_argnames="mesh")
def _gather(arrays: Any, mesh: Mesh) -> Any:
    """The whole arrays on every device."""
    return jax.lax.with_sharding_constraint(arrays, replicated(mesh))


def centre_crops(
    names: Sequence[str | pathlib.Path],
    read: Callable[[int], tuple[PIL.Image.Image, *tuple[int, ...]]],
    feeding: Feeding,
    labels: int = 0,
) -> ImagePass:
    """All images, each resized by its short side and cropped to its central square.

    Args:
      names: of the images.
      read: opens an image and says its labels; an `OSError` means unreadable.
      feeding: how many at a time, and how many pixels along each side of the square.
      labels: how many there are of each image.
    """

    def read_crop(index: int) -> evaluation_batches.Sample:
        image, *numbers = read(index)
        crop = evaluation_image.centre_crop(image, feeding.image_size)
        return (crop, *(np.array(number, np.int32) for number in numbers))

    blank = np.zeros((feeding.image_size, feeding.image_size, 3), np.uint8)
    no_label = np.array(PADDING, np.int32)
    return ImagePass(names, read_crop, [(range(len(names)), (blank, *[no_label] * labels))], feeding)


def masked_images(
    names: Sequence,
    sizes: Sequence[Size | None],
    feed_at: Callable[[Size], tuple[Size, Size]],
    read: Callable[[int], tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "H W"]]],
    feeding: Feeding,
) -> ImagePass:
    """All images with their masks, as (pixels, labels, height and width of the labels, of the pixels).

    Those of a batch are fed at one size and have labels of about one size, which are padded with 255.

    Args:
      names: of the images.
      sizes: of the images and their masks; None for an image that cannot be read.
      feed_at: of an image of some size, the sizes that its pixels are padded to, with black at the lower right, and of
        its labels as they are compared.
      read: those pixels and labels.
      feeding: how many at a time.
    """

    def read_sized(index: int) -> evaluation_batches.Sample:
        pixels, labels = read(index)
        return pixels, labels, *(np.array(array.shape[:2], np.int32) for array in (labels, pixels))

    alike: dict[tuple[Size, Size], dict[int, Size]] = {}  # image → size of its labels
    for index, size in enumerate(sizes):
        if size is not None:
            fed, labels = feed_at(size)
            # All labels of a batch are padded to its largest, so that they may differ twofold at most.
            about = tuple((length - 1).bit_length() for length in labels)
            alike.setdefault((fed, about), {})[index] = labels
    groups = []
    for ((width, height), _), of_images in alike.items():
        columns, rows = (label_maps.padded_length(max(lengths)) for lengths in zip(*of_images.values()))
        pixels = np.zeros((height, width, 3), np.uint8)
        labels = np.full((rows, columns), IGNORED_LABEL, np.uint8)
        groups.append((list(of_images), (pixels, labels, np.ones(2, np.int32), np.array([height, width], np.int32))))
    unreadable = [index for index, size in enumerate(sizes) if size is None]
    return ImagePass(names, read_sized, groups, feeding, unreadable)


def centre_crop_resolution(image_size: int) -> str:
    """What a result says of `centre_crops`."""
    return f"{image_size}x{image_size}, short side resized, centre crop"
