"""How segmentation is measured: everything in which published tables differ, one record for each way of doing it.

Their values are in `protocols.json`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from clippy_jax.datasets import vocabulary
from clippy_jax.datasets.label_layouts import LabelLayout
from clippy_jax.datasets.vocabulary import SegmentationVocabulary
from clippy_jax.errors import InputError
from clippy_jax.evaluators.evaluator import Flag
from clippy_jax.inference.background import LOGIT_SCALE, RANGES, Decision
from clippy_jax.inference.sliding_window import Side
from clippy_jax.input_pipeline import evaluation_image

Resize = Literal["short_side", "square", "centre_crop"]
Filter = Literal["bicubic", "bilinear"]
Background = Literal["prompts", "similarity", "probability", "prompts_and_probability"]
Stretch = Literal["bilinear", "bicubic"]
COLUMNS = ("VOC21", "PC60", "Object", "VOC20", "City", "PC59", "ADE", "Stuff")  # of tables, with background first
STANDARD = "standard"
ONE_PROMPT, OPENAI = "photo", "openai"

FLAGS = (
    Flag(
        "segmentation_protocol",
        "protocol",
        str,
        "standard, public, or whose table it is for: sclip, naclip, clearclip, proxyclip, tcl, groupvit, talk2dino, "
        "dinotxt, tips; or a JSON file",
        rare=False,
    ),
    Flag(
        "segmentation_resize", "resize", str, "short_side keeps the aspect ratio, square does not", get_args(Resize)[:2]
    ),
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
class Protocol:
    """Choices that papers make differently, and that a figure must therefore name.

    Attributes:
      name: of the row, or of the file.
      source: where its values are from.
      split: which images; "" for the data set's own.
      resize: `short_side` keeps the aspect ratio, `square` gives both sides the size, `centre_crop` cuts out a square
        while the labels are squashed to it.
      filter: `bicubic` is Pillow's, antialiased; `bilinear` is OpenCV's, without antialiasing.
      size: pixels of the short side as fed; 0 for what the evaluation asks for.
      longest: pixels that the long side may have at most, for which both are reduced; 0 for no such rule.
      whole_patches: whether sides are rounded to whole patches, and windows averaged patch by patch; else pixel by
        pixel.
      window: pixels along each side of a sliding window (`sliding_window.py`); 0 to feed the whole image at once.
      stride: pixels from one window to the next; 0 for half a window.
      pad_windows: whether windows are filled up to whole patches; else what is left beside whole patches is not seen.
      stretch: how a window's patches become pixels.
      templates: `photo` for "a photo of a(n) NAME", `openai` for CLIP's 80, or prompts with {} where the name
        goes.
      join_words: whether spaces are taken out of a class's own name.
      names: what a class is asked for by instead of its own name; it is as good as the best of them.
      average_probabilities: whether the softmax over names is taken before windows are averaged; else similarities are.
      scale: what similarities are multiplied with before a softmax.
      background: `prompts` asks for background, and what is folded into it, by name; `similarity` and `probability` ask
        for the other classes only and take a pixel for background where the best of them stays below `threshold`;
        `prompts_and_probability` does both.
      threshold: on the scale that `background` names.
      at_most_best: see `background.Decision`.
      smallest_share: see `background.Decision`.
      refinements: iterations of `pamr.py`; 0 for none.
      absent_is_zero: whether a class that neither occurs nor is predicted has an IoU of 0; else it is not counted.
      published: who → mIoU of the eight data sets, None where there is none.
    """

    name: str = STANDARD
    source: str = ""
    split: str = ""
    resize: Resize = "short_side"
    filter: Filter = "bicubic"
    size: int = 0
    longest: int = 0
    whole_patches: bool = True
    window: int = 0
    stride: int = 0
    pad_windows: bool = False
    stretch: Stretch = "bilinear"
    templates: str | Sequence[str] = ONE_PROMPT
    join_words: bool = False
    names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    average_probabilities: bool = False
    scale: float = LOGIT_SCALE
    background: Background = "prompts"
    threshold: float = 0.0
    at_most_best: bool = False
    smallest_share: float = 0.0
    refinements: int = 0
    absent_is_zero: bool = False
    published: Mapping[str, Sequence[float | None]] = dataclasses.field(default_factory=dict)

    @property
    def asks_for_background(self) -> bool:
        """Whether background is prompted by name."""
        return self.background in ("prompts", "prompts_and_probability")

    @property
    def window_stride(self) -> int:
        """Pixels from one window to the next."""
        return self.stride or self.window // 2

    def check(self, layout: LabelLayout) -> None:
        """Refuses what no model and image size could make right.

        Raises:
          InputError: the values do not go with each other or the data set.
        """
        if self.stride and not self.window:
            raise InputError(f"stride={self.stride} needs a window")
        if self.background != "prompts" and not layout.has_background:
            raise InputError(f"background={self.background}: {layout.name} has no background to find; use prompts")
        if self.background != "prompts":
            kind = "similarity" if self.background == "similarity" else "probability"
            lowest, highest = RANGES[kind]
            if not lowest <= self.threshold <= highest:
                raise InputError(
                    f"threshold={self.threshold} is out of range; a {kind} lies between {lowest:g} and {highest:g}"
                )
        elif self.threshold:
            raise InputError(f"threshold={self.threshold} needs background=similarity or background=probability")

    def check_window(self, image_size: int, patch_size: int) -> None:
        """Refuses a window that does not fit the images or the patches.

        Raises:
          InputError: it does not.
        """
        if not self.whole_patches and min(self.window or self.size, self.size or image_size) < patch_size:
            raise InputError(f"protocol {self.name}: size and window must hold a patch of {patch_size} pixels")
        if not self.window or not self.whole_patches:
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
        image_size = self.size or image_size
        if self.resize != "short_side":
            return image_size, image_size
        if self.whole_patches:
            return evaluation_image.whole_image_size(width, height, image_size, patch_size)
        factor = image_size / min(width, height)
        if self.longest:
            factor = min(factor, self.longest / max(width, height))
        return tuple(max(patch_size, int(length * factor + 0.5)) for length in (width, height))

    def side(self, length: int, patch_size: int) -> Side:
        """The windows along a side of an image as fed."""
        stretch = "patches" if self.whole_patches else self.stretch
        return Side.of(length, self.window, self.window_stride, patch_size, self.pad_windows, stretch)

    def prompts(self, words: SegmentationVocabulary) -> tuple[list[list[str]], Decision]:
        """The prompts of every name, and what the names stand for."""
        if self.templates == ONE_PROMPT and not self.names:
            folded = [(0, [prompt]) for prompt in words.prompts[len(words.classes) :]]
            named = [(number, [prompt]) for number, prompt in enumerate(words.prompts[: len(words.classes)])] + folded
        else:
            named = [
                (number, self._fill_in(name))
                for number, own in enumerate(words.classes)
                for name in self.names.get(own, [own.replace(" ", "") if self.join_words else own])
            ]
        if not self.asks_for_background:
            named = [(number, prompts) for number, prompts in named if number]
        decision = Decision(
            class_of_name=tuple(number for number, _ in named),
            threshold=None if self.background == "prompts" else self.threshold,
            certainty="similarity" if self.background in ("prompts", "similarity") else "probability",
            scale=self.scale,
            at_most_best=self.at_most_best,
            smallest_share=self.smallest_share,
        )
        return [prompts for _, prompts in named], decision

    def _fill_in(self, name: str) -> list[str]:
        if self.templates == ONE_PROMPT:
            return [vocabulary.photo_prompt(name)]
        if self.templates == OPENAI:
            return vocabulary.fill_in(vocabulary.imagenet().templates, [name])[0]
        return [template.replace("{}", name) for template in self.templates]

    def resolution(self, image_size: int) -> str:
        """What a result says of how images are fed."""
        size = self.size or image_size
        if self.resize == "centre_crop":
            return f"{size}x{size}, short side resized, centre crop; labels squashed to the same"
        fed = f"{size}x{size}, both sides" if self.resize == "square" else f"short side {size}"
        fed += "" if self.filter == "bicubic" else ", bilinear"
        windows = f", in windows of {self.window} at strides of {self.window_stride}" if self.window else ""
        return f"{fed}, whole image{windows}; labels at full size"

    def prompt_set(self, words: SegmentationVocabulary) -> str:
        """What a result says of the prompts and of background."""
        prompts, _ = self.prompts(words)
        said = words.prompt_set
        if self.templates != ONE_PROMPT:
            said += f", in {len(prompts[0])} template{'s'[: len(prompts[0]) > 1]}"
        if self.background == "prompts":
            return said
        kind = "similarity" if self.background == "similarity" else "probability"
        prompted = "also" if self.asks_for_background else "not prompted: it is"
        return f"{said}, of which background is {prompted} where the best {kind} is below {self.threshold:g}"
