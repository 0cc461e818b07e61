"""Top-down segmentation: every pixel gets the class whose prompt is most similar to its patch (paper, section 4.2).

Two protocols. `public` is the public notebook's arithmetic: the image is resized and centre-cropped while the label map
is squashed to the same square, so that the two only line up for square photos, and a class that does not occur has an
IoU of 0. `standard` feeds the whole image, stretches the prediction over the label map at its full size, and leaves a
class that neither occurs nor is predicted out of the mean.
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
from jaxtyping import Array, Float, Int, Int32, Int64, UInt8

from clippy_jax.errors import InputError
from clippy_jax.evaluators import batches, evaluation_image, label_maps, voc_tree
from clippy_jax.evaluators.encoder import Encoder
from clippy_jax.evaluators.prompt_embeddings import class_embeddings
from clippy_jax.evaluators.result import Result
from clippy_jax.evaluators.vocabulary import IGNORED_LABEL
from clippy_jax.training.sharding import check_batch_size, replicated

Protocol = Literal["public", "standard"]
SPLIT_OF = {"public": "train", "standard": "val"}
EPS = 1e-15
# Counts stay in the device's int32 until they could reach its end, then move to the host's int64.
PIXELS_ON_DEVICE = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class SegmentationResult(Result):
    """Overlap of predicted and labelled segments over all pixels of all images."""

    miou: float
    pixel_accuracy: float
    per_class_iou: dict[str, float | None]  # None for a class left out of the mean
    confusion: list[list[int]]  # pixels; rows are labels, columns predictions
    published_comparable: bool  # measured with the vocabulary that published VOC numbers used

    def figures(self) -> dict[str, float]:
        """mIoU and pixel accuracy."""
        return {"miou": self.miou, "pixel_accuracy": self.pixel_accuracy}


def evaluate(
    model: Encoder,
    folder: str,
    *,
    protocol: Protocol,
    split: str | None = None,
    batch_size: int,
    image_size: int,
    progress: bool,
) -> SegmentationResult:
    """Segments every image of a split of a PASCAL-VOC-shaped tree and compares with its masks.

    Args:
      model: the model; its mesh shares out each batch.
      folder: the tree (`voc_tree.read`).
      protocol: `public` or `standard`, see the module's text.
      split: which list of images; None for the protocol's own, `train` for `public` and `val` for `standard`.
      batch_size: images a step, over all devices of all processes.
      image_size: pixels of the short side of the image as it is fed.
      progress: whether to show bars.

    Raises:
      InputError: the tree, the batch size or the image size does not fit, a mask has another size than its image or a
        label out of range, or more than 1 % of the images are unreadable.
    """
    started = time.perf_counter()
    evaluation_image.check_image_size(image_size, model.config.image.patch_size)
    check_batch_size(batch_size, model.mesh, "batch_size")
    tree = voc_tree.read(folder, split or SPLIT_OF[protocol])
    words = tree.vocabulary
    failures, read, plan = _plan(tree, protocol, image_size, model.config.image.patch_size, batch_size)
    classes = class_embeddings(model, [[prompt] for prompt in words.prompts], progress)

    zeros = jax.device_put(np.zeros((len(words.classes),) * 2, np.int32), replicated(model.mesh))
    on_host, on_device, pixels = np.zeros(zeros.shape, np.int64), zeros, 0
    with tqdm.tqdm(total=len(tree.images), desc="segmentation", unit="image", disable=not progress) as bar:
        for batch, (images, labels, sizes) in zip(plan, batches.load(plan, read, model.mesh, failures), strict=True):
            if pixels + labels.size > PIXELS_ON_DEVICE:
                on_host, on_device, pixels = on_host + np.asarray(on_device), zeros, 0
            patches, _ = model.encode_image(images)
            previous, on_device = on_device, _count(on_device, patches, classes, labels, sizes, model.mesh)
            pixels += labels.size
            previous.block_until_ready()
            bar.update(len(batch.rows) - batch.rows.count(batches.PADDING))
    confusion = on_host + np.asarray(on_device)
    unreadable = failures.agree()
    if not confusion.any():
        raise InputError(f"{folder}: no mask of {tree.split} has a labelled pixel; all are {IGNORED_LABEL}")
    ious = intersection_over_union(confusion, protocol)
    return SegmentationResult(
        task="top-down segmentation",
        folder=str(tree.folder),
        protocol=protocol,
        split=tree.split,
        resolution=_resolution(protocol, image_size),
        prompt_set=words.prompt_set,
        pooling=model.config.pooling,
        images=len(tree.images) - len(unreadable),
        unreadable=unreadable,
        seconds=time.perf_counter() - started,
        miou=float(np.nanmean(ious)),
        pixel_accuracy=float(np.trace(confusion) / confusion.sum()),
        per_class_iou={
            name: None if np.isnan(iou) else float(iou) for name, iou in zip(words.classes, ious, strict=True)
        },
        confusion=confusion.tolist(),
        published_comparable=words.is_voc,
    )


def segment(
    model: Encoder, photo: PIL.Image.Image, classes: Float[np.ndarray, "C D"], image_size: int
) -> Int32[np.ndarray, "H W"]:
    """The index of the most similar class at every pixel of a photo, at the photo's own size.

    The whole photo is fed, its short side at `image_size` pixels, as protocol `standard` does.
    """
    pixels = evaluation_image.whole_image(photo, image_size, model.config.image.patch_size)
    patches, _ = model.encode_image(pixels[None])
    return label_maps.name_pixels(patches[0], classes, photo.height, photo.width)


def intersection_over_union(confusion: Int64[np.ndarray, "C C"], protocol: Protocol) -> Float[np.ndarray, "C"]:
    """The IoU of each class; of one that neither occurs nor is predicted 0 (`public`) or NaN (`standard`)."""
    intersection = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - intersection
    if protocol == "public":
        return intersection / (union + EPS)
    return np.divide(intersection, union, out=np.full_like(intersection, np.nan), where=union > 0)


def _resolution(protocol: Protocol, image_size: int) -> str:
    if protocol == "public":
        return f"{image_size}x{image_size}, short side resized, centre crop; labels squashed to the same"
    return f"short side {image_size}, whole image; labels at full size"


def _plan(
    tree: voc_tree.VOCTree, protocol: Protocol, image_size: int, patch_size: int, batch_size: int
) -> tuple[batches.ReadFailures, batches.Read, list[batches.Batch]]:
    """How each image is read, and which go together: those that are fed at the same size.

    Reads the headers of all images and masks, so a mask of another size is refused before any work starts.
    """

    def read(index: int) -> batches.Sample:
        image = evaluation_image.open_image(tree.images[index])
        mask = voc_tree.read_mask(tree.masks[index], len(tree.vocabulary.classes))
        if protocol == "public":
            pixels = evaluation_image.centre_crop(image, image_size)
            mask = mask.resize((image_size, image_size), PIL.Image.Resampling.NEAREST)
        else:
            pixels = evaluation_image.whole_image(image, image_size, patch_size)
        labels = np.asarray(mask)
        return pixels, labels, np.array(labels.shape, np.int32)

    failures = batches.ReadFailures(tree.images, read)
    groups: dict[tuple[int, int], list[int]] = {}
    largest: dict[tuple[int, int], tuple[int, int]] = {}
    for index, (image, mask) in enumerate(zip(tree.images, tree.masks)):
        size = voc_tree.check_sizes(image, mask)
        if size is None:
            failures.unreadable(index)
            continue
        fed, labels = (image_size, image_size), (image_size, image_size)
        if protocol == "standard":
            fed, labels = evaluation_image.whole_image_size(*size, image_size, patch_size), size
        groups.setdefault(fed, []).append(index)
        known = largest.get(fed, (0, 0))
        largest[fed] = (max(known[0], labels[0]), max(known[1], labels[1]))
    failures.agree()
    plan = []
    for (fed_width, fed_height), indices in groups.items():
        label_width, label_height = (label_maps.padded_length(length) for length in largest[fed_width, fed_height])
        blank = (
            np.zeros((fed_height, fed_width, 3), np.uint8),
            np.full((label_height, label_width), IGNORED_LABEL, np.uint8),
            np.ones(2, np.int32),
        )
        plan.extend(batches.split(indices, batch_size, blank))
    return failures, read, plan


@functools.partial(jax.jit, static_argnames="mesh")
def _count(
    confusion: Int32[Array, "C C"],
    patches: Float[Array, "B h w D"],
    classes: Float[Array, "P D"],
    labels: UInt8[Array, "B H W"],
    sizes: Int[Array, "B 2"],
    mesh: Mesh,
) -> Int32[Array, "C C"]:
    """Adds each labelled pixel of a batch to the confusion matrix, one image at a time on each device.

    Of the P prompted names, those past the C classes are folded into class 0.
    """
    number_of_classes = confusion.shape[0]

    def count_image(image) -> Int32[Array, "C C"]:
        patches, labels, size = image
        predicted = label_maps.label_map(label_maps.similarity_maps(patches, classes), size, labels.shape)
        return confusion_matrix(labels, jnp.where(predicted < number_of_classes, predicted, 0), number_of_classes)

    def count_shard(*shard) -> Int32[Array, "C C"]:
        return jax.lax.psum(jax.lax.map(count_image, shard).sum(axis=0), "data")

    split = PartitionSpec("data")
    count_batch = jax.shard_map(count_shard, mesh=mesh, in_specs=(split, split, split), out_specs=PartitionSpec())
    return confusion + count_batch(patches, labels, sizes)


def confusion_matrix(
    labels: UInt8[Array, "H W"], predicted: Int32[Array, "H W"], number_of_classes: int
) -> Int32[Array, "C C"]:
    """Pixels by label (row) and prediction (column); labels of 255 are not counted."""
    cells = labels.astype(jnp.int32) * number_of_classes + predicted
    beyond = number_of_classes**2
    cells = jnp.where(labels == IGNORED_LABEL, beyond, cells)
    return jnp.bincount(cells.ravel(), length=beyond + 1)[:beyond].reshape(number_of_classes, number_of_classes)
