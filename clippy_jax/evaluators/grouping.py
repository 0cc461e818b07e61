"""Bottom-up grouping: how well groups of patches, made without any words, cover the objects (paper, section 4.2).

For each annotated object the best intersection over union with any group of its image, the mean over the objects of an
image, then over the images. Two kinds of groups: `pca` are the paper's and `attention` are DINO's (both in
`patch_groups.py`), which may overlap. Both are compared with the labels at their full size, as the protocol
`standard` of segmentation does: similarities are stretched bilinearly and every pixel chooses its centre, attention
masks are stretched to the nearest patch. Pixels labelled 255 belong to no object and are left out of the groups too.

The objects are the instances of `SegmentationObject` where the tree has them; else each class of `SegmentationClass`
that occurs in an image is one object. An image without objects is not counted.
"""

import dataclasses
import functools
import typing
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Int32, UInt8

from clippy_jax.datasets import image_file, label_layouts, segmentation_tree
from clippy_jax.datasets.segmentation_tree import SegmentationTree
from clippy_jax.datasets.vocabulary import IGNORED_LABEL
from clippy_jax.errors import InputError
from clippy_jax.evaluators import patch_groups, published
from clippy_jax.evaluators.evaluator import Evaluator, Feeding, Flag
from clippy_jax.evaluators.image_pass import Size, masked_images
from clippy_jax.evaluators.intervals import Counts, Ratio
from clippy_jax.evaluators.result import THIS, Result, markdown
from clippy_jax.inference import Model, label_maps
from clippy_jax.inference.background import Decision
from clippy_jax.input_pipeline import evaluation_image

Groups = Literal["pca", "attention"]
INSTANCES = "SegmentationObject"
LABELS = 256
PUBLISHED_SETTINGS = ("pca", "val", 224)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupingResult(Result):
    """Jaccard similarity of objects and groups."""

    jaccard: float
    objects: int
    published_comparable: bool  # of the tree, objects, groups, split and resolution that published numbers are of

    def figures(self) -> dict[str, float]:
        """The Jaccard similarity."""
        return {"jaccard": self.jaccard}

    def tables(self) -> list[str]:
        """One table."""
        rows = [(THIS, self.cell("jaccard")), *(published.rows("grouping", "VOC") if self.published_comparable else ())]
        return [markdown((self.task, "Jaccard"), rows)]


class Grouping(Evaluator):
    """Groups the patches of every image of a split and compares the groups with its objects.

    Args:
      folder: a PASCAL-VOC-shaped tree.
      groups: `pca` or `attention`, see the module's text.
      split: which list of images.
    """

    flags = (
        Flag("grouping_by", "groups", str, "pca: the paper's; attention: DINO's masks", typing.get_args(Groups)),
        Flag("grouping_split", "split", str, "list of images; val by default"),
    )

    def __init__(self, folder: str, groups: Groups = "pca", split: str = "val"):
        self._groups = groups
        self._tree, self._has_instances = _with_objects(segmentation_tree.read(folder, label_layouts.VOC, split))
        self._sizes = [self._tree.size(index) for index in range(len(self._tree.images))]

    def measure(self, model: Model, feeding: Feeding) -> GroupingResult:
        """The mean over images of the mean over objects of the best overlap."""
        tree, groups, patch_size = self._tree, self._groups, model.config.image.patch_size

        def read(index: int):
            image = image_file.open_image(tree.images[index])
            return evaluation_image.whole_image(image, feeding.image_size, patch_size), tree.labels(index)

        def feed_at(size: Size) -> tuple[Size, Size]:
            return evaluation_image.whole_image_size(*size, feeding.image_size, patch_size), size

        def overlaps(pixels, labels, sizes, _):
            maps = model.encode_image(pixels)[0] if groups == "pca" else model.attention(pixels)
            return _overlaps(maps, labels, sizes, groups, model.mesh)

        images = masked_images(tree.images, self._sizes, feed_at, read, feeding)
        per_image, numbers = [], []
        for in_rows, counts in images.outputs(model, overlaps, "grouping"):
            for number, best in zip(in_rows, map(best_overlaps, counts)):
                if best.size:
                    per_image.append(best)
                    numbers.append(number)
        if not per_image:
            raise InputError(f"{tree.folder}: no mask of {tree.split} has an object")
        described = (
            f"the nearest by cosine of {patch_groups.CENTRES} principal components, centred"
            if groups == "pca"
            else f"{patch_groups.MASS:.0%} of each head's CLS attention in the last block"
        )
        objects = f"an instance of {INSTANCES}" if self._has_instances else "a class of SegmentationClass in an image"
        settings = (groups, tree.split, feeding.image_size)
        means = np.array([best.mean() for best in per_image])
        of = {"images": np.ones(len(means), np.uint8), "jaccard": means}
        ratios = {"jaccard": Ratio("jaccard", "images")}
        return GroupingResult(
            task="bottom-up grouping",
            folder=str(tree.folder),
            protocol=f"Jaccard; groups: {described}; object: {objects}; 255 left out",
            split=tree.split,
            resolution=f"short side {feeding.image_size}, whole image; labels at full size",
            prompt_set="none",
            images=len(per_image),
            unreadable=images.unreadable,
            jaccard=float(means.mean()),
            objects=sum(best.size for best in per_image),
            counts=Counts.of_images(tree.folder, tree.images, np.array(numbers), of, ratios),
            published_comparable=tree.vocabulary.is_packaged and self._has_instances and settings == PUBLISHED_SETTINGS,
        )


def _with_objects(tree: SegmentationTree) -> tuple[SegmentationTree, bool]:
    """The tree with masks whose labels, save 0 and 255, are objects, and whether these are instances.

    Raises:
      InputError: only some images have instance masks.
    """
    if not (tree.folder / INSTANCES).is_dir():
        return tree, False
    masks = tuple(tree.folder / INSTANCES / mask.name for mask in tree.masks)
    for image, mask in zip(tree.images, masks):
        if not mask.is_file():
            raise InputError(
                f"{image} has no mask of its objects: {mask} does not exist; without the folder {INSTANCES} each class "
                "in an image would count as one object"
            )
    return dataclasses.replace(tree, masks=masks, class_of_value=np.arange(LABELS, dtype=np.int16)), True


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


@functools.partial(jax.jit, static_argnames=("groups", "mesh"))
def _overlaps(
    maps: Float[Array, "B h w D"] | Float[Array, "B heads h w"],
    labels: UInt8[Array, "B H W"],
    sizes: Int[Array, "B 2"],
    groups: Groups,
    mesh: Mesh,
) -> Int32[Array, "B labels groups+1"]:
    """The counts that `best_overlaps` reads, one image at a time on each device."""

    def count_image(image) -> Int32[Array, "labels groups+1"]:
        maps, labels, size = image
        if groups == "pca":
            similarities = patch_groups.centre_similarities(maps)
            centres = similarities.shape[-1]
            weights = label_maps.stretched_weights(size, labels.shape, similarities.shape[:2])
            decision = Decision.folding(centres, centres)
            nearest = label_maps.label_map(label_maps.stretched(similarities, *weights), labels.shape, size, decision)
            return count_overlaps(labels, nearest == jnp.arange(centres)[:, None, None])
        attended = patch_groups.attention_masks(maps)
        rows, columns = (
            _nearest_patch(size[axis], labels.shape[axis], attended.shape[1 + axis]) for axis in range(labels.ndim)
        )
        return count_overlaps(labels, attended[:, rows][:, :, columns])

    split = PartitionSpec("data")
    count_shard = functools.partial(jax.lax.map, count_image)
    count_batch = jax.shard_map(lambda *shard: count_shard(shard), mesh=mesh, in_specs=(split,) * 3, out_specs=split)
    return count_batch(maps, labels, sizes)


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
