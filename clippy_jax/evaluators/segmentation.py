"""Top-down segmentation: every pixel gets the class whose prompt is most similar to its patch (paper, section 4.2).

By protocols (`protocols/`), any of them on any data set that `label_layouts.py` describes. `public` is the public
notebook's arithmetic: the image is resized and centre-cropped while the label map is squashed to the same square, so
that the two only line up for square images, and a class that does not occur has an IoU of 0. `standard` feeds the whole
image, stretches the prediction over the label map at its full size, and leaves a class that neither occurs nor is
predicted out of the mean.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Int32, UInt8

from clippy_jax.datasets import image_file, label_layouts, segmentation_tree
from clippy_jax.datasets.label_layouts import LabelLayout
from clippy_jax.datasets.vocabulary import IGNORED_LABEL
from clippy_jax.errors import InputError
from clippy_jax.evaluators import protocols
from clippy_jax.evaluators.confusion_matrix import confusion_matrix, intersection_over_union
from clippy_jax.evaluators.evaluator import Evaluator, Feeding, Flag
from clippy_jax.evaluators.intervals import Counts, Ratio
from clippy_jax.evaluators.masked_images import Size, masked_images
from clippy_jax.evaluators.protocols import COLUMNS, FLAGS, STANDARD, Protocol
from clippy_jax.evaluators.result import THIS, Result, markdown, percent
from clippy_jax.inference import Model, label_maps, pamr, sliding_window
from clippy_jax.inference.background import Decision
from clippy_jax.inference.sliding_window import Side
from clippy_jax.input_pipeline import evaluation_image
from clippy_jax.input_pipeline.evaluation_batches import PADDING
from clippy_jax.models.clippy import normalise_pixels

EPS = 1e-15

# (data set, protocol, split) → (who, mIoU), with the data set's own words and no options. Which of COCO's label sets
# the paper's "COCO" is, our facts do not say; it is taken for the panoptic one.
PUBLISHED = {
    ("PASCAL VOC", "public", "train"): (("public notebook, clippy_5k.pt", 42.107),),
    ("PASCAL VOC", "standard", "val"): (
        ("paper, CC-12M", 50.8),
        ("paper, HQITP-134M", 52.2),
        ("paper, its CLIP baseline, CC-12M", 17.5),
    ),
    ("ADE20K, 150 classes", "standard", "validation"): (
        ("paper, CC-12M", 13.1),
        ("paper, HQITP-134M", 13.5),
        ("paper, its CLIP baseline, CC-12M", 5.0),
    ),
    ("COCO panoptic, 133 classes", "standard", "val2017"): (
        ("paper, CC-12M", 23.8),
        ("paper, HQITP-134M", 25.5),
        ("paper, its CLIP baseline, CC-12M", 7.8),
    ),
    ("COCO-Object, 80 classes and background", "standard", "val2017"): (
        ("paper, CC-12M", 28.5),
        ("paper, HQITP-134M", 32.0),
        ("paper, its CLIP baseline, CC-12M", 13.2),
    ),
}
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
            known = PUBLISHED.get((self.data_set, self.protocol, self.split), ())
            rows += [(who, miou, None, None) for who, miou in known]
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
            how = _How(
                sides,
                decision,
                number_of_classes,
                protocol.average_probabilities and protocol.scale,
                protocol.refinements,
            )
            return _count(scores, pixels, fed_sizes, labels, sizes, how, model.mesh)

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
        ious = intersection_over_union(confusion, **absent)
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


class _How(NamedTuple):
    """What is compiled into the counting."""

    sides: tuple[Side, Side]
    decision: Decision
    classes: int
    probability_scale: float  # of the softmax before windows are averaged; 0 for none
    refinements: int


@functools.partial(jax.jit, static_argnames=("how", "mesh"))
def _count(
    scores: Float[Array, "B R C P"],
    pixels: UInt8[Array, "B h w 3"],
    fed_sizes: Int[Array, "B 2"],
    labels: UInt8[Array, "B H W"],
    sizes: Int[Array, "B 2"],
    how: _How,
    mesh: Mesh,
) -> tuple[Int32[Array, "C C"], Int32[Array, "B 3 C"]]:
    """The confusion matrix of all labelled pixels of a batch, and each image's intersection, union and labelled pixels.

    Counted one image at a time on each device.
    """

    def count_image(image) -> Int32[Array, "C C"]:
        scores, pixels, fed, labels, size = image
        if how.probability_scale:
            scores = sliding_window.mean_probabilities(scores, fed, how.sides, how.probability_scale)
            weights = tuple(
                label_maps.interpolation_weights(size[axis], labels.shape[axis], fed[axis], scores.shape[axis])
                for axis in range(2)
            )
        else:
            weights = tuple(
                side.weights(fed[axis], size[axis], labels.shape[axis]) for axis, side in enumerate(how.sides)
            )
        refine = functools.partial(_refined, pixels=pixels, fed=fed, size=size, how=how) if how.refinements else None
        predicted = label_maps.label_map(scores, *weights, size, how.decision, refine)
        return confusion_matrix(labels, predicted, how.classes)

    def count_shard(*shard):
        confusions = jax.lax.map(count_image, shard)
        intersection = jnp.diagonal(confusions, axis1=1, axis2=2)
        labelled, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
        of_images = jnp.stack([intersection, labelled + predicted - intersection, labelled], axis=1)
        return jax.lax.psum(confusions.sum(axis=0), "data"), of_images

    split, whole = PartitionSpec("data"), PartitionSpec()
    count_batch = jax.shard_map(count_shard, mesh=mesh, in_specs=(split,) * 5, out_specs=(whole, split))
    return count_batch(scores, pixels, fed_sizes, labels, sizes)


def _refined(
    scores: Float[Array, "H W P"],
    pixels: UInt8[Array, "h w 3"],
    fed: Int[Array, "2"],
    size: Int[Array, "2"],
    how: _How,
) -> Float[Array, "H W P"]:
    """Scores that follow the edges of the image, stretched from the size it is fed at."""
    rows, columns = (
        label_maps.interpolation_weights(size[axis], scores.shape[axis], fed[axis], pixels.shape[axis])
        for axis in range(2)
    )
    image = jnp.einsum("Hh,Ww,hwc->HWc", rows, columns, normalise_pixels(pixels), precision=label_maps.HIGHEST)
    return pamr.refine(scores, image, size, how.refinements)
