"""The assembled training input: from the configuration to batches of uint8 images, or features of them, and token ids.

The global batch of step k is a function of the configuration, the data set and k alone. A process makes its part of
it by random access, so nothing has to be remembered to continue at any step, with any number of processes, and no
shard, worker or epoch ever runs dry.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int32, UInt8

from clippy_jax.config import InputConfig
from clippy_jax.datasets.sample import BadCounts, BadSample, Sample
from clippy_jax.datasets.sources import open_source
from clippy_jax.errors import InputError
from clippy_jax.host_tensorflow import import_tensorflow
from clippy_jax.input_pipeline import captions, crops, engine, images
from clippy_jax.input_pipeline.accounts import Account, Accounts, row_digest
from clippy_jax.input_pipeline.image_features import ImageFeatures
from clippy_jax.input_pipeline.order import Order
from clippy_jax.input_pipeline.substitutes import Substitutes
from clippy_jax.input_pipeline.tokenizer import load_tokenizer

if TYPE_CHECKING:
    import tensorflow as tf

_UNIFORMS = 24  # random numbers per slot: a crop and a flip, rounded up to a multiple of Philox's 4
_FLIP = crops.UNIFORMS
NO_CHANCE = (0.0,) * _UNIFORMS  # for images of which nothing is left to chance


class Batch(NamedTuple):
    """This process's part of a global batch, B = batch_size / process_count, L = text_length."""

    images: UInt8[np.ndarray, "B H W 3"] | Float[np.ndarray, "B T D"]  # or features of them (`image_features.py`)
    tokens: Int32[np.ndarray, "B L"]


class _Rows(NamedTuple):
    batch: Batch
    indices: list[int]  # of the samples in the data set
    digest: int  # the sum of the rows'
    bad: BadCounts  # samples that were replaced


class TrainingInput:
    """An opened and checked data set, from which the batches of any step can be made.

    Attributes:
      num_samples: samples of the data set that have an image and a caption.
      left_out: samples that have not, by cause.
      steps_per_epoch: whole global batches in the data set.
      tokenizer: what the captions are encoded with.
      features: what is read in the place of images, if `config.image_features` says so.
    """

    def __init__(self, config: InputConfig, process_index: int = 0, process_count: int = 1):
        """Opens everything.

        Raises:
          InputError: the data, the tokenizer or the batch size is wrong.
        """
        _check(config, process_count)
        self._config = config
        self.tokenizer = load_tokenizer(config.tokenizer)
        self._source = open_source(config, process_index, process_count)
        self.num_samples = len(self._source)
        self.left_out = self._source.left_out
        if self.num_samples < config.batch_size:
            raise InputError(
                f"config.input.train: {config.train!r} holds {self.num_samples} samples"
                f"{f' (left out: {self.left_out})' if self.left_out else ''}, fewer than "
                f"config.input.batch_size={config.batch_size}"
            )
        self.features = None
        if config.image_features:
            self.features = ImageFeatures(config, self._source)
            self._source = self._source.without_images()
        self._order = Order(self.num_samples, config.batch_size, config.seed)
        self.steps_per_epoch = self._order.steps_per_epoch
        self._local_batch = config.batch_size // process_count
        self._first_slot = process_index * self._local_batch
        self._substitutes = Substitutes(self._source, config.seed, config.max_bad_fraction)
        self._accounts = Accounts()
        import_tensorflow()  # its import takes seconds, which belong to the start

    @property
    def skipped(self) -> dict[str, int]:
        """Bad samples that this process has met and replaced so far, by cause."""
        return self._substitutes.skipped

    def account(self, step: int) -> Account:
        """What was read for this process's part of a step's batch, once the batch is there; asked for only once."""
        return self._accounts.take(step)

    def dataset(self, start_step: int = 0, num_steps: int | None = None) -> "tf.data.Dataset":
        """This process's part of the batches of steps start_step, start_step + 1, ..., as elements of type `Batch`.

        Args:
          num_steps: how many; None for no end.
        """
        return self._parallel_batches(self._make, start_step, num_steps, self._local_batch).dataset

    def batches(self, start_step: int = 0, num_steps: int | None = None) -> Iterator[Batch]:
        """Yields the elements of `dataset` as NumPy arrays; the coming ones are made in the background.

        Raises:
          InputError: no readable sample can be found.
        """
        yield from self._parallel_batches(self._make, start_step, num_steps, self._local_batch)

    def whole_batch(self, step: int) -> tuple[Batch, list[str]]:
        """The global batch of one step, made by this process alone, and where each of its samples lies."""
        indices = np.zeros(self._config.batch_size, np.int64)

        def make(step: int, slots: slice) -> Batch:
            made = self._rows(step, slots.start, slots.stop)
            indices[slots] = made.indices
            return made.batch

        (batch,) = self._parallel_batches(make, step, 1, self._config.batch_size)
        return batch, [self._source.name(int(index)) for index in indices]

    def _parallel_batches(
        self, make: Callable[[int, slice], Batch], start_step: int, num_steps: int | None, batch_size: int
    ) -> engine.ParallelBatches:
        tf = import_tensorflow()
        row = Batch(tf.TensorSpec(*self._image), tf.TensorSpec((self._config.text_length,), tf.int32))
        end = None if num_steps is None else start_step + num_steps
        return engine.ParallelBatches(make, start_step, end, batch_size, row)

    @property
    def _image(self) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type of what a sample's image, or its features, make."""
        if self.features:
            return self.features.shape, self.features.dtype
        return (self._config.image_size, self._config.image_size, 3), np.dtype(np.uint8)

    def _make(self, step: int, rows: slice) -> Batch:
        """Makes some rows of this process's part of a step's batch."""
        made = self._rows(step, self._first_slot + rows.start, self._first_slot + rows.stop)
        self._substitutes.count(len(made.indices), made.bad)
        self._accounts.add(step, made.digest, made.bad)
        return made.batch

    def _rows(self, step: int, first: int, last: int) -> _Rows:
        """Makes the rows of slots first to last of a step's global batch."""
        wanted = self._order.indices(step)[first:last].tolist()
        uniforms = slot_uniforms(self._config.seed, step, first, last).tolist()
        shape, dtype = self._image
        made = engine.empty_bytes((last - first, math.prod(shape) * dtype.itemsize)).view(dtype).reshape(-1, *shape)
        texts, indices, digest, bad = [], [], 0, BadCounts()
        ahead = self._source.read_ahead(wanted)

        for i, (slot, numbers) in enumerate(zip(range(first, last), uniforms)):

            def load(index: int, slot: int = slot, numbers: list[float] = numbers) -> tuple:
                return self._load(ahead.get(index) or self._source[index], index, slot, numbers)

            made[i], text, index, of_row = self._substitutes.load(load, wanted[i], step, slot, bad)
            texts.append(text)
            indices.append(index)
            digest += of_row
        return _Rows(Batch(made, self.tokenizer.encode(texts, self._config.text_length)), indices, digest, bad)

    def _load(self, sample: Sample, index: int, slot: int, uniforms: list[float]) -> tuple[np.ndarray, str, int, int]:
        """The image, or its features, and the text that a sample, number `index`, makes in a slot, the index, and the
        row's digest."""
        config = self._config
        text = captions.clean(sample.caption) if config.clean_captions else sample.caption
        if not text.strip():
            raise BadSample("captionless")

        if self.features:
            image = self.features[index]
            sample = Sample(image.tobytes(), sample.caption)
        else:
            image = augmented_image(config, sample.image, uniforms)
        return image, text, index, row_digest(slot, index, sample) if config.ledger else 0


def augmented_image(config: InputConfig, data: bytes, uniforms: Sequence[float]) -> UInt8[np.ndarray, "H W 3"]:
    """What a step trains on of an encoded image, from a slot's random numbers; raises `BadSample`."""

    def crop(height: int, width: int) -> crops.Box:
        return crops.random_resized_crop(
            height, width, config.crop_scale, config.crop_ratio, uniforms[: crops.UNIFORMS]
        )

    mirror = config.flip and uniforms[_FLIP] < 0.5
    return images.training_image(data, crop, config.image_size, config.max_pixels, mirror)


def slot_uniforms(seed: int, step: int, first: int, last: int) -> Float64[np.ndarray, "slots uniforms"]:
    """The random numbers in [0, 1) of slots first to last of a step's global batch, whoever asks for them."""
    bits = np.random.Philox(key=(seed, step))
    bits.advance(first * _UNIFORMS // 4)  # a counter makes 4 numbers
    return np.random.Generator(bits).random((last - first, _UNIFORMS))


def _check(config: InputConfig, process_count: int) -> None:
    """Raises InputError for values that no data set fits."""
    if config.batch_size < 1 or config.batch_size % process_count:
        raise InputError(
            f"config.input.batch_size={config.batch_size} cannot be divided among {process_count} processes; "
            f"make it a positive multiple of {process_count}"
        )
    if min(config.image_size, config.text_length, config.seed + 1) < 1:
        raise InputError(
            f"config.input.image_size={config.image_size}, text_length={config.text_length} and seed={config.seed} "
            f"must be positive (the seed may be 0)"
        )
    for name, (low, high), limit in (
        ("crop_scale", config.crop_scale, 1),
        ("crop_ratio", config.crop_ratio, float("inf")),
    ):
        if not 0 < low <= high <= limit:
            raise InputError(f"config.input.{name}={(low, high)} must be (low, high) with 0 < low <= high <= {limit}")
