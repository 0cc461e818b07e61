"""What a Shapes data set is made from."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that the bytes of a data set depend on (beside the versions of NumPy and Pillow)."""

    train_pairs: int = 20_000  # images with captions to train on
    evaluation_images: int = 600  # held-out images in each list of the VOC, ImageNet and Waterbirds trees
    image_size: int = 64  # pixels a side
    seed: int = 0
    pairs_per_shard: int = 2000  # in each tar but the last
    version: int = 2  # of the drawings: raised whenever the same settings come to mean other pictures
