"""The training input: from data sets on disk to batches of uint8 images and token ids."""

from typing import TYPE_CHECKING

from clippy_jax.config import InputConfig

if TYPE_CHECKING:
    import tensorflow as tf


def training_dataset(
    config: InputConfig,
    start_step: int = 0,
    num_steps: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> "tf.data.Dataset":
    """The training data as a `tf.data.Dataset`, exactly as `clippy_jax.main` trains on it.

    Element k is this process's part of the global batch of step `start_step` + k, a named tuple of

        images: uint8 [batch_size / process_count, image_size, image_size, 3], or the rows of
            `config.image_features`
        tokens: int32 [batch_size / process_count, text_length], EOS (1) at the end of each text, then 0

    A function of the configuration, the data and the step alone: it is shuffled anew every epoch, repeats for ever
    unless `num_steps` are asked for, and a run goes on where it was by `start_step`. Example in `docs/data.md`.

    Raises:
      InputError: the data, the tokenizer or the batch size is wrong.
    """
    from clippy_jax.input_pipeline.pipeline import TrainingInput  # here: reading needs more packages than inference

    return TrainingInput(config, process_index, process_count).dataset(start_step, num_steps)
