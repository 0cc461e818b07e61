"""PASCAL-VOC-shaped trees: `JPEGImages/*.jpg`, `SegmentationClass/*.png`, `ImageSets/Segmentation/<split>.txt`."""

from clippy_jax.datasets import label_layouts, segmentation_tree
from clippy_jax.datasets.segmentation_tree import SegmentationTree


def read(folder: str, split: str) -> SegmentationTree:
    """Lists the images and masks of a split; raises `InputError` as `segmentation_tree.read` does."""
    return segmentation_tree.read(folder, label_layouts.VOC, split)
