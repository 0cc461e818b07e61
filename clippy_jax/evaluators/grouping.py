"""Bottom-up grouping: how well groups of patches, made without any words, cover the objects (paper, section 4.2).

For each annotated object the best intersection over union with any group of its image, the mean over the objects of an
image, then over the images. Two kinds of groups: `pca` are the paper's (`principal_groups.py`), `attention` are DINO's
(`attention_masks.py`), which may overlap. Both are compared with the labels at their full size, as the protocol
`standard` of segmentation does: similarities are stretched bilinearly and every pixel chooses its centre, attention
masks are stretched to the nearest patch. Pixels labelled 255 belong to no object and are left out of the groups too.

The objects are the instances of `SegmentationObject` where the tree has them; else each class of `SegmentationClass`
that occurs in an image is one object. An image without objects is not counted.
"""

import dataclasses
import functools
import pathlib
import time
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Int32, UInt8

from clippy_jax.config import check_image_size
from clippy_jax.datasets import image_file, masks, voc_tree
from clippy_jax.datasets.segmentation_tree import SegmentationTree
from clippy_jax.datasets.vocabulary import IGNORED_LABEL
from clippy_jax.errors import InputError
from clippy_jax.evaluators import attention_masks, principal_groups
from clippy_jax.evaluators.result import Result
from clippy_jax.inference import label_maps
from clippy_jax.inference.encoder import Encoder
from clippy_jax.input_pipeline import evaluation_batches, evaluation_image
from clippy_jax.mesh import check_batch_size, replicated

Groups = Literal["pca", "attention"]
INSTANCES = "SegmentationObject"
LABELS = 256


@dataclasses.dataclass(frozen=True)
class GroupingResult(Result):
    """Jaccard similarity of objects and groups."""

    jaccard: float
    objects: int
    published_comparable: bool  # of the tree and the kind of groups that published numbers are of

    def figures(self) -> dict[str, float]:
        """The Jaccard similarity."""
        return {"jaccard": self.jaccard}


@dataclasses.dataclass(frozen=True)
class Objects:
    """Images with a mask each whose labels, save 0 and 255, are objects."""

    tree: SegmentationTree
    masks: tuple[pathlib.Path, ...]
    labels: int  # that a mask may hold, from 0
    kind: str  # what an object is, for the protocol


def read(folder: str, split: str = "val") -> Objects:
    """Lists the images of a split of a PASCAL-VOC-shaped tree and the masks of their objects.

    Raises:
      InputError: the tree is not as it should be (`voc_tree.read`), or only some images have instance masks.
    """
    tree = voc_tree.read(folder, split)
    if not (tree.folder / INSTANCES).is_dir():
        return Objects(tree, tree.masks, len(tree.vocabulary.classes), "a class of SegmentationClass in an image")
    masks = tuple(tree.folder / INSTANCES / mask.name for mask in tree.masks)
    for image, mask in zip(tree.images, masks):
        if not mask.is_file():
            raise InputError(
                f"{image} has no mask of its objects: {mask} does not exist; without the folder {INSTANCES} each class "
                "in an image would count as one object"
            )
    return Objects(tree, masks, IGNORED_LABEL, f"an instance of {INSTANCES}")


def evaluate(
    model: Encoder,
    folder: str,
    *,
    groups: Groups = "pca",
    split: str = "val",
    batch_size: int,
    image_size: int,
    progress: bool,
) -> GroupingResult:
    """Groups the patches of every image of a split and compares the groups with its objects.

    Args:
      model: the model; its mesh shares out each batch.
      folder: a PASCAL-VOC-shaped tree (`read`).
      groups: `pca` or `attention`, see the module's text.
      split: which list of images.
      batch_size: images a step, over all devices of all processes.
      image_size: pixels of the short side of the image as it is fed, whole.
      progress: whether to show a bar.

    Raises:
      InputError: the tree, the batch size or the image size does not fit, a mask has another size than its image or a
        label out of range, no image has an object, or more than 1 % of the images are unreadable.
    """
    started = time.perf_counter()
    check_image_size(image_size, model.config.image, "image_size")
    check_batch_size(batch_size, model.mesh, "batch_size")
    objects = read(folder, split)
    tree = objects.tree
    failures, load, plan = _plan(objects, image_size, model.config.image.patch_size, batch_size)

    per_image = []
    with tqdm.tqdm(total=len(tree.images), desc="grouping", unit="image", disable=not progress) as bar:
        for batch, (images, labels, sizes) in zip(
            plan, evaluation_batches.load(plan, load, model.mesh, failures), strict=True
        ):
            maps = model.encode_image(images)[0] if groups == "pca" else model.attention(images)
            counts = np.asarray(_overlaps(maps, labels, sizes, groups, model.mesh))
            per_image.extend(best for best in map(best_overlaps, counts) if best.size)
            bar.update(len(batch.rows) - batch.rows.count(evaluation_batches.PADDING))
    unreadable = failures.agree()
    if not per_image:
        raise InputError(f"{folder}: no mask of {split} has an object")
    return GroupingResult(
        task="bottom-up grouping",
        folder=str(tree.folder),
        protocol=f"Jaccard; groups: {_described(groups)}; object: {objects.kind}; 255 left out",
        split=split,
        resolution=f"short side {image_size}, whole image; labels at full size",
        prompt_set="none",
        pooling=model.config.pooling,
        images=len(per_image),
        unreadable=unreadable,
        seconds=time.perf_counter() - started,
        jaccard=float(np.mean([best.mean() for best in per_image])),
        objects=sum(best.size for best in per_image),
        published_comparable=tree.vocabulary.is_packaged and groups == "pca",
    )


def best_overlaps(counts: Int[np.ndarray, "labels groups+1"]) -> Float[np.ndarray, "O"]:
    """The best intersection over union of each object of an image, in the order of their labels.

    Args:
      counts: pixels of each label inside each group and, in the last column, at all.
    """
    known = counts[:IGNORED_LABEL].astype(np.int64)
    inside, pixels = known[:, :-1], known[:, -1]
    found = np.flatnonzero(pixels[1:]) + 1
    union = pixels[found, None] + inside.sum(axis=0) - inside[found]
    return (inside[found] / union).max(axis=1, initial=0)


def _described(groups: Groups) -> str:
    if groups == "pca":
        return f"the nearest by cosine of {principal_groups.CENTRES} principal components, centred"
    return f"{attention_masks.MASS:.0%} of each head's CLS attention in the last block"


def _plan(
    objects: Objects, image_size: int, patch_size: int, batch_size: int
) -> tuple[evaluation_batches.ReadFailures, evaluation_batches.Read, list[evaluation_batches.Batch]]:
    """How each image is read, and which go together: those that are fed at the same size."""
    images = objects.tree.images

    def load(index: int) -> evaluation_batches.Sample:
        image = image_file.open_image(images[index])
        labels = np.asarray(masks.read_mask(objects.masks[index], objects.labels))
        pixels = evaluation_image.whole_image(image, image_size, patch_size)
        return pixels, labels, np.array(labels.shape, np.int32)

    failures = evaluation_batches.ReadFailures(images, load)
    alike: dict[tuple[int, int], dict[int, tuple[int, int]]] = {}  # by size as fed: image → its own size
    for index, (image, mask) in enumerate(zip(images, objects.masks)):
        size = masks.check_sizes(image, mask)
        if size is None:
            failures.unreadable(index)
            continue
        fed = evaluation_image.whole_image_size(*size, image_size, patch_size)
        alike.setdefault(fed, {})[index] = size
    failures.agree()
    plan = []
    for (fed_width, fed_height), sizes in alike.items():
        width, height = (label_maps.padded_length(max(lengths)) for lengths in zip(*sizes.values()))
        blank = (
            np.zeros((fed_height, fed_width, 3), np.uint8),
            np.full((height, width), IGNORED_LABEL, np.uint8),
            np.ones(2, np.int32),
        )
        plan.extend(evaluation_batches.split(list(sizes), batch_size, blank))
    return failures, load, plan


@functools.partial(jax.jit, static_argnames=("groups", "mesh"))
def _overlaps(
    maps: Float[Array, "B h w D"] | Float[Array, "B heads h w"],
    labels: UInt8[Array, "B H W"],
    sizes: Int[Array, "B 2"],
    groups: Groups,
    mesh: Mesh,
) -> Int32[Array, "B labels groups+1"]:
    """The counts that `best_overlaps` reads, one image at a time on each device; the result is on every device."""

    def count_image(image) -> Int32[Array, "labels groups+1"]:
        maps, labels, size = image
        if groups == "pca":
            similarities = principal_groups.centre_similarities(maps)
            nearest = label_maps.label_map(similarities, size, labels.shape)
            return count_overlaps(labels, nearest == jnp.arange(similarities.shape[-1])[:, None, None])
        attended = attention_masks.attention_masks(maps)
        rows, columns = (
            _nearest_patch(size[axis], labels.shape[axis], attended.shape[1 + axis]) for axis in range(labels.ndim)
        )
        return count_overlaps(labels, attended[:, rows][:, :, columns])

    split = PartitionSpec("data")
    count_shard = functools.partial(jax.lax.map, count_image)
    count_batch = jax.shard_map(lambda *shard: count_shard(shard), mesh=mesh, in_specs=(split,) * 3, out_specs=split)
    return jax.lax.with_sharding_constraint(count_batch(maps, labels, sizes), replicated(mesh))


def count_overlaps(labels: UInt8[Array, "H W"], masks: Bool[Array, "groups H W"]) -> Int32[Array, "labels groups+1"]:
    """Pixels of each of the 256 labels inside each mask and, in the last column, at all."""
    everything = jnp.ones((1, *labels.shape), bool)

    def count(mask: Bool[Array, "H W"]) -> Int32[Array, "labels"]:
        return jnp.bincount(jnp.where(mask, labels.astype(jnp.int32), LABELS).ravel(), length=LABELS + 1)[:LABELS]

    return jax.lax.map(count, jnp.concatenate([masks, everything])).T


def _nearest_patch(length: Int[Array, ""], padded: int, patches: int) -> Int32[Array, "padded"]:
    """The patch that each of `length` pixels lies in; pixels past `length` carry no meaning."""
    position = (jnp.arange(padded) + 0.5) * (patches / length)
    return jnp.minimum(position.astype(jnp.int32), patches - 1)
