"""Renders the embedded data set in the formats of the real data.

python -m clippy_jax.shapes --output=data/shapes

python -m clippy_jax.shapes --output=data/small --train_pairs=2000 --evaluation_images=100 --image_size=96
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from clippy_jax.command_line import Parser, announce
from clippy_jax.errors import exit_with_one_line
from clippy_jax.shapes.dataset import write_dataset
from clippy_jax.shapes.settings import Settings
from clippy_jax.shapes.webdataset_shards import shard_pattern

_DEFAULTS = Settings()


def _at_least(smallest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.lstrip("-").isdigit() or int(text) < smallest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {smallest} on")
        return int(text)

    return parse


def flags() -> Parser:
    """The flags of this program."""
    parser = Parser(
        "python -m clippy_jax.shapes", "Renders the embedded data set in the formats of the real data.", __doc__
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to; left alone if it is complete")
    for flag, smallest, meaning in (
        ("train_pairs", 1, "training images with captions"),
        ("evaluation_images", 4, "held-out images in each list of the VOC, ImageNet and Waterbirds trees"),
        ("image_size", 16, "pixels along each side of an image"),
        ("seed", 0, "of everything random"),
    ):
        default = getattr(_DEFAULTS, flag)
        parser.add_argument(f"--{flag}", type=_at_least(smallest), default=default, help=f"{meaning} ({default})")
    return parser


@exit_with_one_line
def main() -> None:
    """Renders the data set, unless it is there."""
    arguments = vars(flags().parse_args())
    output = arguments.pop("output")
    settings = Settings(**arguments)
    announce(devices=False)
    start = time.monotonic()
    if write_dataset(output, settings):
        print(f"Shapes rendered in {time.monotonic() - start:.0f} s; have a look at {output / 'preview.png'}")
    else:
        print(f"Shapes is complete in {output}: nothing to do")
    print(f"Its training pairs: {output / 'train' / shard_pattern(settings)}")


if __name__ == "__main__":
    main()
