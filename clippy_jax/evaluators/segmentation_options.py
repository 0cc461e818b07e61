"""How images are fed and background is found, beside what a protocol fixes."""

import dataclasses
from typing import Literal, get_args

from clippy_jax.datasets.label_layouts import LabelLayout
from clippy_jax.errors import InputError
from clippy_jax.evaluators.evaluator import Flag
from clippy_jax.inference.background import RANGES, Background
from clippy_jax.input_pipeline import evaluation_image

Resize = Literal["short_side", "square"]
FLAGS = (
    Flag("segmentation_resize", "resize", str, "short_side keeps the aspect ratio, square does not", get_args(Resize)),
    Flag("segmentation_window", "window", int, "pixels along each side of a sliding window; whole images by default"),
    Flag("segmentation_stride", "stride", int, "pixels from one window to the next; half a window by default"),
    Flag(
        "segmentation_background",
        "background",
        str,
        "how background is found; by default by prompts",
        get_args(Background),
    ),
    Flag("segmentation_threshold", "threshold", float, "of the best similarity or probability, for background"),
)


@dataclasses.dataclass(frozen=True)
class SegmentationOptions:
    """Choices that papers make differently, and that a figure must therefore name.

    Attributes:
      resize: `short_side` keeps the aspect ratio, `square` gives both sides the image size.
      window: pixels along each side of a sliding window (`sliding_window.py`); 0 to feed the whole image at once.
      stride: pixels from one window to the next; 0 for half a window.
      background: `prompts` asks for background and what is folded into it by name, as the paper does; `similarity` and
        `probability` ask for the other classes only and take a pixel for background where the best of them stays
        below `threshold` (`background.py`).
      threshold: on the scale that `background` names.
    """

    resize: Resize = "short_side"
    window: int = 0
    stride: int = 0
    background: Background = "prompts"
    threshold: float = 0.0

    @property
    def by_threshold(self) -> bool:
        """Whether background is what is similar to nothing, instead of what is similar to its prompts."""
        return self.background != "prompts"

    @property
    def window_stride(self) -> int:
        """Pixels from one window to the next."""
        return self.stride or self.window // 2

    def check(self, layout: LabelLayout, protocol: Literal["public", "standard"]) -> None:
        """Refuses what no model and image size could make right.

        Raises:
          InputError: the options do not go with each other, the data set or the protocol.
        """
        if protocol == "public" and self != SegmentationOptions():
            raise InputError("protocol public fixes how images are fed and background is found; options need standard")
        if self.stride and not self.window:
            raise InputError(f"stride={self.stride} needs a window")
        if self.by_threshold and not layout.has_background:
            raise InputError(f"background={self.background}: {layout.name} has no background to find; use prompts")
        if self.by_threshold:
            lowest, highest = RANGES[self.background]
            if not lowest <= self.threshold <= highest:
                raise InputError(
                    f"threshold={self.threshold} is out of range; a {self.background} lies between {lowest:g} and "
                    f"{highest:g}"
                )
        elif self.threshold:
            raise InputError(f"threshold={self.threshold} needs background=similarity or background=probability")

    def check_window(self, image_size: int, patch_size: int) -> None:
        """Refuses a window that is larger than the images or cuts through patches.

        Raises:
          InputError: it does.
        """
        if not self.window:
            return
        if not 0 < self.window <= image_size or self.window % patch_size:
            raise InputError(
                f"window={self.window} must be a multiple of the patch size {patch_size} and at most "
                f"image_size={image_size}"
            )
        if not 0 < self.window_stride <= self.window or self.window_stride % patch_size:
            raise InputError(
                f"stride={self.window_stride} must be a multiple of the patch size {patch_size} and at most "
                f"window={self.window}"
            )

    def fed_size(self, width: int, height: int, image_size: int, patch_size: int) -> tuple[int, int]:
        """Width and height, in pixels, at which an image is fed."""
        if self.resize == "square":
            return image_size, image_size
        return evaluation_image.whole_image_size(width, height, image_size, patch_size)

    def resolution(self, image_size: int) -> str:
        """What a result says of it."""
        fed = f"{image_size}x{image_size}, both sides" if self.resize == "square" else f"short side {image_size}"
        windows = f", in windows of {self.window} at strides of {self.window_stride}" if self.window else ""
        return f"{fed}, whole image{windows}; labels at full size"

    def prompt_set(self, packaged: str) -> str:
        """What a result says of the prompts and of background."""
        if not self.by_threshold:
            return packaged
        return f"{packaged}, of which background is not prompted: it is where the best {self.background} is below " + (
            f"{self.threshold:g}"
        )
