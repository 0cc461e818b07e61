"""Random images and captions for benchmarks: no files, next to no work."""

import numpy as np

from clippy_jax.datasets.sample import BadCounts, Sample

_SAMPLES = 1_000_000
_IMAGES = 64
_WORDS = ("red", "green", "small", "large", "apple", "zebra", "lemon", "grass", "water", "brick", "photo", "star")


class SyntheticSource:
    """A million samples made of a few random images, uncompressed, and captions of three to ten words."""

    def __init__(self, image_size: int):
        self.left_out = BadCounts()
        random = np.random.default_rng(0)
        header = f"P6 {image_size} {image_size} 255\n".encode()  # Portable Pixmap
        self._images = [header + random.bytes(image_size * image_size * 3) for _ in range(_IMAGES)]

    def __len__(self) -> int:
        return _SAMPLES

    def __getitem__(self, index: int) -> Sample:
        words = (_WORDS[(index // (i + 1)) % len(_WORDS)] for i in range(3 + index % 8))
        return Sample(self._images[index % _IMAGES], " ".join(words))

    def name(self, index: int) -> str:
        """Where a sample lies, for messages."""
        return f"synthetic[{index}]"
