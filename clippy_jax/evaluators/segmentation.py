"""Top-down segmentation: every pixel gets the class whose prompt is most similar to its patch (paper, section 4.2).

Two protocols. `public` is the public notebook's arithmetic: the image is resized and centre-cropped while the label map
is squashed to the same square, so that the two only line up for square images, and a class that does not occur has an
IoU of 0. `standard` feeds the whole image, stretches the prediction over the label map at its full size, and leaves a
class that neither occurs nor is predicted out of the mean; `SegmentationOptions` are its variations. Any data set that
`label_layouts.py` describes can be measured by either.
"""

import dataclasses
import functools
import typing
from collections.abc import Sequence
from typing import Literal

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
from clippy_jax.evaluators.confusion_matrix import confusion_matrix, intersection_over_union
from clippy_jax.evaluators.evaluator import Evaluator, Feeding, Flag
from clippy_jax.evaluators.intervals import Counts, Ratio
from clippy_jax.evaluators.masked_images import Size, masked_images
from clippy_jax.evaluators.result import THIS, Result, markdown, percent
from clippy_jax.evaluators.segmentation_options import FLAGS, SegmentationOptions
from clippy_jax.inference import Model, label_maps, sliding_window
from clippy_jax.inference.background import class_of
from clippy_jax.input_pipeline import evaluation_image
from clippy_jax.input_pipeline.evaluation_batches import PADDING

Protocol = Literal["public", "standard"]
SPLIT_OF = {"public": "train", "standard": "val"}  # of PASCAL VOC
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
        typing.get_args(Protocol),
    ),
    Flag("voc_split", "split", str, "list of images; val for standard and train for public by default"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationResult(Result):
    """Overlap of predicted and labelled segments over all pixels of all images."""

    data_set: str  # the name of its layout
    options: SegmentationOptions
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
      protocol: `public` or `standard`, see the module's text.
      split: which images; None for the layout's own, of VOC `train` for `public` and `val` for `standard`.
      options: variations of `standard`, by the names of `SegmentationOptions`.
    """

    flags = FLAGS

    def __init__(
        self,
        folder: str,
        layout: LabelLayout = label_layouts.VOC,
        protocol: Protocol = "standard",
        split: str | None = None,
        **options,
    ):
        self._options = SegmentationOptions(**options)
        self._options.check(layout, protocol)
        self._protocol = protocol
        split = split or (SPLIT_OF[protocol] if layout == label_layouts.VOC else None)
        self._tree = segmentation_tree.read(folder, layout, split)
        self._sizes = [self._tree.size(index) for index in range(len(self._tree.images))]

    def measure(self, model: Model, feeding: Feeding) -> SegmentationResult:
        """mIoU over the confusion matrix of all pixels."""
        tree, words, options = self._tree, self._tree.vocabulary, self._options
        options.check_window(feeding.image_size, model.config.image.patch_size)
        prompts = words.prompts[1 : len(words.classes)] if options.by_threshold else words.prompts
        classes = model.class_embeddings([[prompt] for prompt in prompts], feeding.progress)
        number_of_classes = len(words.classes)

        def count(pixels, labels, sizes) -> tuple[Int32[Array, "C C"], Int32[Array, "B 3 C"]]:
            if options.window:
                maps = sliding_window.similarity_maps(model, pixels, classes, options.window, options.window_stride)
            else:
                maps = label_maps.batch_similarity_maps(model.encode_image(pixels)[0], classes, model.mesh)
            return _count(maps, labels, sizes, number_of_classes, options, model.mesh)

        images = self._image_pass(model.config.image.patch_size, feeding)
        confusion = np.zeros((number_of_classes,) * 2, np.int64)
        numbers, of_images = [], []
        for in_rows, (of_batch, of_rows) in images.outputs(model, count, "segmentation"):
            confusion += of_batch
            numbers.append(in_rows[in_rows != PADDING])
            of_images.append(of_rows[in_rows != PADDING])
        if not confusion.any():
            raise InputError(f"{tree.folder}: no mask of {tree.split} has a labelled pixel; all are {IGNORED_LABEL}")
        is_public = self._protocol == "public"
        absent = dict(without_pixels=0.0, eps=EPS) if is_public else dict(without_pixels=np.nan)
        ious = intersection_over_union(confusion, **absent)
        labelled = confusion.sum(axis=1)
        accuracies = np.divide(np.diag(confusion), labelled, out=np.full(len(ious), np.nan), where=labelled > 0)
        of = dict(zip(("intersection", "union", "labelled"), np.moveaxis(np.concatenate(of_images), 1, 0)))
        ratios = {
            "miou": Ratio("intersection", "union", "mean_with_absent" if is_public else "mean"),
            "mean_accuracy": Ratio("intersection", "labelled", "mean"),
            "pixel_accuracy": Ratio("intersection", "labelled"),
        }
        square = f"{feeding.image_size}x{feeding.image_size}"
        return SegmentationResult(
            task="top-down segmentation",
            folder=str(tree.folder),
            protocol=self._protocol,
            split=tree.split,
            resolution=f"{square}, short side resized, centre crop; labels squashed to the same"
            if is_public
            else options.resolution(feeding.image_size),
            prompt_set=options.prompt_set(words.prompt_set),
            images=len(tree.images) - len(images.unreadable),
            unreadable=images.unreadable,
            data_set=tree.layout.name,
            options=options,
            miou=float(np.nanmean(ious)),
            mean_accuracy=float(np.nanmean(accuracies)),
            pixel_accuracy=float(np.trace(confusion) / confusion.sum()),
            per_class_iou=_by_class(words.classes, ious),
            per_class_accuracy=_by_class(words.classes, accuracies),
            counts=Counts.of_images(tree.folder, tree.images, np.concatenate(numbers), of, ratios),
            confusion=confusion.tolist(),
            published_comparable=words.is_packaged
            and options == SegmentationOptions()
            and feeding.image_size == PUBLISHED_IMAGE_SIZE,
        )

    def _image_pass(self, patch_size: int, feeding: Feeding):
        """The images and labels as the protocol feeds and compares them."""
        square = (feeding.image_size, feeding.image_size)

        def fed_size(size: Size) -> Size:
            return self._options.fed_size(*size, feeding.image_size, patch_size)

        def public(index: int):
            labels = PIL.Image.fromarray(self._tree.labels(index)).resize(square, PIL.Image.Resampling.NEAREST)
            image = image_file.open_image(self._tree.images[index])
            return evaluation_image.centre_crop(image, feeding.image_size), np.asarray(labels)

        def standard(index: int):
            image = image_file.open_image(self._tree.images[index])
            return evaluation_image.resized(image, fed_size(image.size)), self._tree.labels(index)

        if self._protocol == "public":
            return masked_images(self._tree.images, self._sizes, lambda _: (square, square), public, feeding)
        return masked_images(self._tree.images, self._sizes, lambda size: (fed_size(size), size), standard, feeding)


def _by_class(classes: Sequence[str], shares: Float[np.ndarray, "C"]) -> dict[str, float | None]:
    return {name: None if np.isnan(share) else float(share) for name, share in zip(classes, shares, strict=True)}


@functools.partial(jax.jit, static_argnames=("number_of_classes", "options", "mesh"))
def _count(
    maps: Float[Array, "B h w P"],
    labels: UInt8[Array, "B H W"],
    sizes: Int[Array, "B 2"],
    number_of_classes: int,
    options: SegmentationOptions,
    mesh: Mesh,
) -> tuple[Int32[Array, "C C"], Int32[Array, "B 3 C"]]:
    """The confusion matrix of all labelled pixels of a batch, and each image's intersection, union and labelled pixels.

    Counted one image at a time on each device.
    """
    choose = functools.partial(
        class_of, classes=number_of_classes, background=options.background, threshold=options.threshold
    )

    def count_image(image) -> Int32[Array, "C C"]:
        maps, labels, size = image
        return confusion_matrix(labels, label_maps.label_map(maps, size, labels.shape, choose), number_of_classes)

    def count_shard(*shard):
        confusions = jax.lax.map(count_image, shard)
        intersection = jnp.diagonal(confusions, axis1=1, axis2=2)
        labelled, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
        of_images = jnp.stack([intersection, labelled + predicted - intersection, labelled], axis=1)
        return jax.lax.psum(confusions.sum(axis=0), "data"), of_images

    split, whole = PartitionSpec("data"), PartitionSpec()
    count_batch = jax.shard_map(count_shard, mesh=mesh, in_specs=(split, split, split), out_specs=(whole, split))
    return count_batch(maps, labels, sizes)
