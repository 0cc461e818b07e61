"""Top-down segmentation: every pixel gets the class whose prompt is most similar to its patch (paper, section 4.2).

By protocols (`protocols/`), any of them on any data set that `label_layouts.py` describes. `public` is the public
notebook's arithmetic: the image is resized and centre-cropped while the label map is squashed to the same square, so
that the two only line up for square images, and a class that does not occur has an IoU of 0. `standard` feeds the whole
image, stretches the prediction over the label map at its full size, and leaves a class that neither occurs nor is
predicted out of the mean.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import PIL.Image
from jaxtyping import Array, Float, Int32

from clippy_jax.datasets import image_file, label_layouts, segmentation_tree
from clippy_jax.datasets.label_layouts import LabelLayout
from clippy_jax.datasets.vocabulary import IGNORED_LABEL
from clippy_jax.errors import InputError
from clippy_jax.evaluators import confusion_matrix, protocols, published
from clippy_jax.evaluators.evaluator import Evaluator, Feeding, Flag
from clippy_jax.evaluators.image_pass import Size, masked_images
from clippy_jax.evaluators.intervals import Counts, Ratio
from clippy_jax.evaluators.protocols import COLUMNS, FLAGS, STANDARD, Protocol
from clippy_jax.evaluators.result import THIS, Result, markdown, percent
from clippy_jax.inference import Model, sliding_window
from clippy_jax.input_pipeline import evaluation_image
from clippy_jax.input_pipeline.evaluation_batches import PADDING

EPS = 1e-15

PUBLISHED_IMAGE_SIZE = 224

VOC_FLAGS = (
    Flag(
        "voc_protocol",
        "protocol",
        str,
        "standard: whole image, labels at full size; public: the public notebook's arithmetic",
        ("public", "standard"),
    ),
    Flag("voc_split", "split", str, "list of images; val for standard and train for public by default"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationResult(Result):
    """Overlap of predicted and labelled segments over all pixels of all images."""

    data_set: str  # the name of its layout
    column: str  # what tables of open-vocabulary segmentation call it, if it is in them and in its own words
    options: Protocol
    miou: float
    mean_accuracy: float  # the mean of the classes' own
    pixel_accuracy: float
    per_class_iou: dict[str, float | None]  # None for a class left out of the mean
    per_class_accuracy: dict[str, float | None]  # None for a class that does not occur
    confusion: list[list[int]]  # pixels; rows are labels, columns predictions
    published_comparable: bool  # in the data set's own words, without options, at the resolution of published numbers

    def figures(self) -> dict[str, float]:
        """mIoU, mean class accuracy (mAcc) and pixel accuracy (aAcc)."""
        return {"miou": self.miou, "mean_accuracy": self.mean_accuracy, "pixel_accuracy": self.pixel_accuracy}

    def tables(self) -> list[str]:
        """The means, then every class."""
        rows = [(THIS, *map(self.cell, self.figures()))]
        if self.published_comparable:
            measured = f"{self.data_set}, {self.protocol}, {self.split}"
            if measured in published.tables()["segmentation"].columns:
                rows += [(who, miou, None, None) for who, miou in published.rows("segmentation", measured)]
        if self.column:
            place = COLUMNS.index(self.column)
            of_method = self.options.published.items()
            rows += [(who, mious[place], None, None) for who, mious in of_method if mious[place] is not None]
        accuracies = self.per_class_accuracy.values()
        by_class = [
            (name, percent(iou), percent(acc)) for (name, iou), acc in zip(self.per_class_iou.items(), accuracies)
        ]
        means = markdown((self.task, "mIoU", "mean accuracy", "pixel accuracy"), rows)
        return [means, markdown(("class", "IoU", "accuracy"), by_class)]


class Segmentation(Evaluator):
    """Segments every image of a split of a data set and compares with its masks.

    Args:
      folder: the tree (`segmentation_tree.read`).
      layout: how the tree is laid out.
      protocol: by the name of a record of `protocols/`, or a JSON file with one.
      split: which images; None for the protocol's or the layout's own.
      options: variations of `standard`, by the names of `Protocol`'s values.
    """

    flags = FLAGS

    def __init__(
        self,
        folder: str,
        layout: LabelLayout = label_layouts.VOC,
        protocol: str = STANDARD,
        split: str | None = None,
        **options,
    ):
        self._protocol = protocols.read(protocol, layout, **options)
        self._is_as_published = not options
        self._tree = segmentation_tree.read(folder, layout, split or self._protocol.split or None)
        self._sizes = [self._tree.size(index) for index in range(len(self._tree.images))]

    def measure(self, model: Model, feeding: Feeding) -> SegmentationResult:
        """mIoU over the confusion matrix of all pixels."""
        tree, words, protocol = self._tree, self._tree.vocabulary, self._protocol
        patch_size = model.config.image.patch_size
        protocol.check_window(feeding.image_size, patch_size)
        prompts, decision = protocol.prompts(words)
        names = model.class_embeddings(prompts, feeding.progress, for_patches=True)
        number_of_classes = len(words.classes)

        def count(pixels, labels, sizes, fed_sizes) -> tuple[Int32[Array, "C C"], Int32[Array, "B 3 C"]]:
            sides = tuple(protocol.side(length, patch_size) for length in pixels.shape[1:3])
            scores = sliding_window.window_scores(model, pixels, fed_sizes, names, sides)
            how = confusion_matrix.How(
                sides,
                decision,
                number_of_classes,
                protocol.average_probabilities and protocol.scale,
                protocol.refinements,
            )
            return confusion_matrix.count(scores, pixels, fed_sizes, labels, sizes, how, model.mesh)

        images = self._image_pass(patch_size, feeding)
        confusion = np.zeros((number_of_classes,) * 2, np.int64)
        numbers, of_images = [], []
        for in_rows, (of_batch, of_rows) in images.outputs(model, count, "segmentation"):
            confusion += of_batch
            numbers.append(in_rows[in_rows != PADDING])
            of_images.append(of_rows[in_rows != PADDING])
        if not confusion.any():
            raise InputError(f"{tree.folder}: no mask of {tree.split} has a labelled pixel; all are {IGNORED_LABEL}")
        absent = dict(without_pixels=0.0, eps=EPS) if protocol.absent_is_zero else dict(without_pixels=np.nan)
        ious = confusion_matrix.intersection_over_union(confusion, **absent)
        labelled = confusion.sum(axis=1)
        accuracies = np.divide(np.diag(confusion), labelled, out=np.full(len(ious), np.nan), where=labelled > 0)
        of = dict(zip(("intersection", "union", "labelled"), np.moveaxis(np.concatenate(of_images), 1, 0)))
        ratios = {
            "miou": Ratio("intersection", "union", "mean_with_absent" if protocol.absent_is_zero else "mean"),
            "mean_accuracy": Ratio("intersection", "labelled", "mean"),
            "pixel_accuracy": Ratio("intersection", "labelled"),
        }
        return SegmentationResult(
            task="top-down segmentation",
            folder=str(tree.folder),
            protocol=protocol.name,
            split=tree.split,
            resolution=protocol.resolution(feeding.image_size),
            prompt_set=protocol.prompt_set(words),
            images=len(tree.images) - len(images.unreadable),
            unreadable=images.unreadable,
            data_set=tree.layout.name,
            column=tree.layout.column if words.is_packaged else "",
            options=protocol,
            miou=float(np.nanmean(ious)),
            mean_accuracy=float(np.nanmean(accuracies)),
            pixel_accuracy=float(np.trace(confusion) / confusion.sum()),
            per_class_iou=_by_class(words.classes, ious),
            per_class_accuracy=_by_class(words.classes, accuracies),
            counts=Counts.of_images(tree.folder, tree.images, np.concatenate(numbers), of, ratios),
            confusion=confusion.tolist(),
            published_comparable=words.is_packaged
            and self._is_as_published
            and feeding.image_size == PUBLISHED_IMAGE_SIZE,
        )

    def _image_pass(self, patch_size: int, feeding: Feeding):
        """The images and labels as the protocol feeds and compares them."""
        protocol, tree = self._protocol, self._tree

        def fed_size(size: Size) -> Size:
            return protocol.fed_size(*size, feeding.image_size, patch_size)

        def feed_at(size: Size) -> tuple[Size, Size]:
            fed = fed_size(size)
            padded = tuple(protocol.side(length, patch_size).length for length in fed)
            return padded, fed if protocol.resize == "centre_crop" else size

        def read(index: int):
            image, labels = image_file.open_image(tree.images[index]), tree.labels(index)
            fed = fed_size(image.size)
            if protocol.resize == "centre_crop":
                squashed = PIL.Image.fromarray(labels).resize(fed, PIL.Image.Resampling.NEAREST)
                return evaluation_image.centre_crop(image, fed[0]), np.asarray(squashed)
            resize = evaluation_image.resized if protocol.filter == "bicubic" else evaluation_image.resized_bilinearly
            return resize(image, fed), labels

        return masked_images(tree.images, self._sizes, feed_at, read, feeding)


def _by_class(classes: Sequence[str], shares: Float[np.ndarray, "C"]) -> dict[str, float | None]:
    return {name: None if np.isnan(share) else float(share) for name, share in zip(classes, shares, strict=True)}
