"""TensorFlow as this project uses it: on the host, to read data and to write TensorBoard's files."""

import contextlib
import os
from collections.abc import Iterator
from types import ModuleType


def import_tensorflow() -> ModuleType:
    """TensorFlow, silent and kept off the GPUs, which are JAX's. Call it before a library imports it by itself.

    It comes without Keras, which would take a third of the time and is loaded when `tf.keras` is asked for.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # not used here, and announced on stderr
    with _looking_for_keras_2():
        import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # somebody has used it before: then they have decided
        tf.config.set_visible_devices([], "GPU")
    return tf


@contextlib.contextmanager
def _looking_for_keras_2() -> Iterator[None]:
    """TensorFlow loads the Keras that this variable names while it is imported. Keras 2 is usually not there."""
    if "TF_USE_LEGACY_KERAS" in os.environ:
        yield
        return
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    try:
        yield
    finally:
        del os.environ["TF_USE_LEGACY_KERAS"]
