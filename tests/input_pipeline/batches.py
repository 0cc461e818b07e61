"""Whole batches of a training input, to compare, and shards with samples of which some are bad."""

import numpy as np

from clippy_jax.input_pipeline.pipeline import Batch, TrainingInput


def collected(config, start=0, steps=7, process_count=1):
    """The global batches, put together from all processes."""
    inputs = [TrainingInput(config, process, process_count) for process in range(process_count)]
    parts = zip(*(one.batches(start, steps) for one in inputs), strict=True)
    return [Batch(*(np.concatenate(arrays) for arrays in zip(*batches))) for batches in parts]


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others):
        np.testing.assert_array_equal(batch.images, other.images)
        np.testing.assert_array_equal(batch.tokens, other.tokens)


def numbers(training_input, batches):
    """Which photos are in each batch: photo i has the caption "photo i"."""
    ids = training_input.tokenizer.encode([f"photo {i}" for i in range(100)], 16)
    known = {tuple(row): i for i, row in enumerate(ids.tolist())}
    return [[known[tuple(row)] for row in batch.tokens.tolist()] for batch in batches]


def bad_shard(path, write_tar, photo, encoded, good):
    """Good samples behind one of every kind that is odd or bad."""
    cut = encoded(photo(1), quality=90)[:-200]
    samples = {
        "grey.jpg": (encoded(photo(1).convert("L")), "photo 1"),
        "cmyk.jpg": (encoded(photo(2).convert("CMYK")), "photo 2"),
        "rgba.png": (encoded(photo(3).convert("RGBA"), "PNG"), "photo 3"),
        "palette.png": (encoded(photo(4).convert("P"), "PNG"), "photo 4"),
        "webp.webp": (encoded(photo(5), "WEBP"), "photo 5"),
        "disguised.jpg": (encoded(photo(6), "WEBP"), "photo 6"),
        "truncated.jpg": (cut, "photo 90"),
        "undecodable.jpg": (b"<html>gone</html>", "photo 91"),
        "blank.jpg": (encoded(photo(1)), " \n"),
        "captionless.jpg": (encoded(photo(1)), ""),
    }
    samples |= {f"{i}.jpg": (encoded(photo(i)), f"photo {i}") for i in range(7, 7 + good)}
    members = {}
    for name, (image, caption) in samples.items():
        members[name] = image
        members[name.partition(".")[0] + ".txt"] = caption.encode()
    return write_tar(path, members)
