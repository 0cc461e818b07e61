"""Top-down segmentation: every pixel gets the class whose prompt is most similar to its patch (paper, section 4.2).

Two protocols. `public` is the public notebook's arithmetic: the image is resized and centre-cropped while the label map
is squashed to the same square, so that the two only line up for square photos, and a class that does not occur has an
IoU of 0. `standard` feeds the whole image, stretches the prediction over the label map at its full size, and leaves a
class that neither occurs nor is predicted out of the mean; `SegmentationOptions` are its variations. Any data set that
`label_layouts.py` describes can be measured by either.
"""

import dataclasses
import functools
import time
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import tqdm
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Int32, UInt8

from clippy_jax.config import check_image_size
from clippy_jax.datasets import image_file, label_layouts, segmentation_tree
from clippy_jax.datasets.label_layouts import LabelLayout
from clippy_jax.datasets.segmentation_tree import SegmentationTree
from clippy_jax.datasets.vocabulary import IGNORED_LABEL
from clippy_jax.errors import InputError
from clippy_jax.evaluators.confusion_matrix import confusion_matrix, intersection_over_union
from clippy_jax.evaluators.result import Result
from clippy_jax.evaluators.segmentation_options import SegmentationOptions
from clippy_jax.inference import label_maps, sliding_window
from clippy_jax.inference.background import name_or_background
from clippy_jax.inference.encoder import Encoder
from clippy_jax.inference.prompts import class_embeddings
from clippy_jax.input_pipeline import evaluation_batches, evaluation_image
from clippy_jax.mesh import check_batch_size, replicated

Protocol = Literal["public", "standard"]
SPLIT_OF = {"public": "train", "standard": "val"}  # of PASCAL VOC
EPS = 1e-15
# Counts stay in the device's int32 until they could reach its end, then move to the host's int64.
PIXELS_ON_DEVICE = 2**31 - 1
PUBLIC_RESOLUTION = "{0}x{0}, short side resized, centre crop; labels squashed to the same"
DEFAULT_OPTIONS = SegmentationOptions()


@dataclasses.dataclass(frozen=True)
class SegmentationResult(Result):
    """Overlap of predicted and labelled segments over all pixels of all images."""

    data_set: str  # the name of its layout
    options: SegmentationOptions
    miou: float
    pixel_accuracy: float
    per_class_iou: dict[str, float | None]  # None for a class left out of the mean
    confusion: list[list[int]]  # pixels; rows are labels, columns predictions
    published_comparable: bool  # measured with the vocabulary that published numbers used

    def figures(self) -> dict[str, float]:
        """mIoU and pixel accuracy."""
        return {"miou": self.miou, "pixel_accuracy": self.pixel_accuracy}


def evaluate(
    model: Encoder,
    folder: str,
    *,
    layout: LabelLayout = label_layouts.VOC,
    protocol: Protocol = "standard",
    split: str | None = None,
    options: SegmentationOptions = DEFAULT_OPTIONS,
    batch_size: int,
    image_size: int,
    progress: bool,
) -> SegmentationResult:
    """Segments every image of a split of a data set and compares with its masks.

    Args:
      model: the model; its mesh shares out each batch.
      folder: the tree (`segmentation_tree.read`).
      layout: how the tree is laid out.
      protocol: `public` or `standard`, see the module's text.
      split: which images; None for the layout's own, of VOC `train` for `public` and `val` for `standard`.
      options: variations of `standard`.
      batch_size: images a step, over all devices of all processes.
      image_size: pixels of the short side of the image as it is fed.
      progress: whether to show bars.

    Raises:
      InputError: the tree, the options, the batch size or the image size does not fit, a mask has another size than its
        image or a label out of range, or more than 1 % of the images are unreadable.
    """
    started = time.perf_counter()
    check_image_size(image_size, model.config.image, "image_size")
    check_batch_size(batch_size, model.mesh, "batch_size")
    options.check(layout, protocol)
    options.check_window(image_size, model.config.image.patch_size)
    tree = segmentation_tree.read(
        folder, layout, split or (SPLIT_OF[protocol] if layout == label_layouts.VOC else None)
    )
    words = tree.vocabulary
    failures, read, plan = _plan(tree, protocol, options, image_size, model.config.image.patch_size, batch_size)
    prompts = words.prompts[1 : len(words.classes)] if options.by_threshold else words.prompts
    classes = class_embeddings(model, [[prompt] for prompt in prompts], progress)

    zeros = jax.device_put(np.zeros((len(words.classes),) * 2, np.int32), replicated(model.mesh))
    on_host, on_device, pixels = np.zeros(zeros.shape, np.int64), zeros, 0
    with tqdm.tqdm(total=len(tree.images), desc="segmentation", unit="image", disable=not progress) as bar:
        for batch, (images, labels, sizes) in zip(
            plan, evaluation_batches.load(plan, read, model.mesh, failures), strict=True
        ):
            if pixels + labels.size > PIXELS_ON_DEVICE:
                on_host, on_device, pixels = on_host + np.asarray(on_device), zeros, 0
            if options.window:
                maps = sliding_window.similarity_maps(model, images, classes, options.window, options.window_stride)
            else:
                maps = label_maps.batch_similarity_maps(model.encode_image(images)[0], classes, model.mesh)
            previous, on_device = on_device, _count(on_device, maps, labels, sizes, options, model.mesh)
            pixels += labels.size
            previous.block_until_ready()
            bar.update(len(batch.rows) - batch.rows.count(evaluation_batches.PADDING))
    confusion = on_host + np.asarray(on_device)
    unreadable = failures.agree()
    if not confusion.any():
        raise InputError(f"{folder}: no mask of {tree.split} has a labelled pixel; all are {IGNORED_LABEL}")
    absent = dict(without_pixels=0.0, eps=EPS) if protocol == "public" else dict(without_pixels=np.nan)
    ious = intersection_over_union(confusion, **absent)
    return SegmentationResult(
        task="top-down segmentation",
        folder=str(tree.folder),
        protocol=protocol,
        split=tree.split,
        resolution=PUBLIC_RESOLUTION.format(image_size) if protocol == "public" else options.resolution(image_size),
        prompt_set=options.prompt_set(words.prompt_set),
        pooling=model.config.pooling,
        images=len(tree.images) - len(unreadable),
        unreadable=unreadable,
        seconds=time.perf_counter() - started,
        data_set=layout.name,
        options=options,
        miou=float(np.nanmean(ious)),
        pixel_accuracy=float(np.trace(confusion) / confusion.sum()),
        per_class_iou={
            name: None if np.isnan(iou) else float(iou) for name, iou in zip(words.classes, ious, strict=True)
        },
        confusion=confusion.tolist(),
        published_comparable=words.is_packaged,
    )


def _plan(
    tree: SegmentationTree,
    protocol: Protocol,
    options: SegmentationOptions,
    image_size: int,
    patch_size: int,
    batch_size: int,
) -> tuple[evaluation_batches.ReadFailures, evaluation_batches.Read, list[evaluation_batches.Batch]]:
    """How each image is read, and which go together: those that are fed at one size and have labels of about one size.

    Reads the headers of all images and masks, so a mask of another size is refused before any work starts.
    """

    def read(index: int) -> evaluation_batches.Sample:
        image = image_file.open_image(tree.images[index])
        labels = tree.labels(index)
        if protocol == "public":
            pixels = evaluation_image.centre_crop(image, image_size)
            squashed = PIL.Image.fromarray(labels).resize((image_size, image_size), PIL.Image.Resampling.NEAREST)
            labels = np.asarray(squashed)
        else:
            pixels = evaluation_image.resized(image, options.fed_size(*image.size, image_size, patch_size))
        return pixels, labels, np.array(labels.shape, np.int32)

    failures = evaluation_batches.ReadFailures(tree.images, read)
    alike: dict[tuple[tuple[int, int], ...], dict[int, tuple[int, int]]] = {}  # image → width and height of its labels
    for index in range(len(tree.images)):
        size = tree.size(index)
        if size is None:
            failures.unreadable(index)
            continue
        fed, labels = (image_size, image_size), (image_size, image_size)
        if protocol == "standard":
            fed, labels = options.fed_size(*size, image_size, patch_size), size
        # All labels of a batch are padded to its largest, so that they may differ twofold at most.
        about = tuple((length - 1).bit_length() for length in labels)
        alike.setdefault((fed, about), {})[index] = labels
    failures.agree()
    plan = []
    for ((fed_width, fed_height), _), sizes in alike.items():
        width, height = (label_maps.padded_length(max(lengths)) for lengths in zip(*sizes.values()))
        blank = (
            np.zeros((fed_height, fed_width, 3), np.uint8),
            np.full((height, width), IGNORED_LABEL, np.uint8),
            np.ones(2, np.int32),
        )
        plan.extend(evaluation_batches.split(list(sizes), batch_size, blank))
    return failures, read, plan


@functools.partial(jax.jit, static_argnames=("options", "mesh"))
def _count(
    confusion: Int32[Array, "C C"],
    maps: Float[Array, "B h w P"],
    labels: UInt8[Array, "B H W"],
    sizes: Int[Array, "B 2"],
    options: SegmentationOptions,
    mesh: Mesh,
) -> Int32[Array, "C C"]:
    """Adds each labelled pixel of a batch to the confusion matrix, one image at a time on each device.

    Of the P prompted names, those past the C classes are folded into class 0; with a background by threshold the
    names are those of the classes from 1 on.
    """
    number_of_classes = confusion.shape[0]

    def choose(similarities: Float[Array, "S W P"]) -> Int32[Array, "S W"]:
        if options.by_threshold:
            return name_or_background(similarities, options.threshold, options.background)
        named = label_maps.most_similar(similarities)
        return jnp.where(named < number_of_classes, named, 0)

    def count_image(image) -> Int32[Array, "C C"]:
        maps, labels, size = image
        return confusion_matrix(labels, label_maps.label_map(maps, size, labels.shape, choose), number_of_classes)

    def count_shard(*shard) -> Int32[Array, "C C"]:
        return jax.lax.psum(jax.lax.map(count_image, shard).sum(axis=0), "data")

    split = PartitionSpec("data")
    count_batch = jax.shard_map(count_shard, mesh=mesh, in_specs=(split, split, split), out_specs=PartitionSpec())
    return confusion + count_batch(maps, labels, sizes)
