"""Which data sets the report asks for, where they may lie under one folder, and where they come from."""

import dataclasses
import pathlib
from collections.abc import Mapping

from clippy_jax.datasets import label_layouts, vocabulary
from clippy_jax.datasets.tars import wds_images
from clippy_jax.errors import InputError
from clippy_jax.evaluators.open_vocabulary import PLACES


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One data set as its distributor unpacks it.

    Attributes:
      name: what it is called.
      places: where it may lie, relative to the folder of all data; the first that is there is taken.
      origin: where it comes from and how it must lie.
    """

    name: str
    places: tuple[str, ...]
    origin: str

    def find(self, root: pathlib.Path) -> pathlib.Path | None:
        """Its folder or file; None if it is not there."""
        return next((root / place for place in self.places if (root / place).exists()), None)

    @property
    def missing(self) -> str:
        """What to do to have it."""
        return f"{self.name}: take {self.origin}, as `{self.places[0]}` under `--data`"


IMAGENET = DataSet(
    "ImageNet",
    ("imagenet/val", "ILSVRC2012/val", "imagenet"),
    "the 50,000 validation images (image-net.org) in one folder for each synset",
)
IMAGENET_V2 = DataSet(
    "ImageNet-v2",
    ("imagenetv2-matched-frequency-format-val", "imagenet_v2", "imagenetv2"),
    "imagenetv2-matched-frequency.tar.gz (huggingface.co/datasets/vaishaal/ImageNetV2), unpacked",
)
VOC = DataSet(
    "PASCAL VOC 2012",
    (*PLACES[label_layouts.VOC], "voc"),
    "VOCtrainval_11-May-2012.tar (host.robots.ox.ac.uk/pascal/VOC/voc2012), unpacked",
)
CONTEXT = DataSet(
    "PASCAL Context",
    PLACES[label_layouts.PASCAL_CONTEXT_59],
    "VOC2010 with the masks that MMSegmentation's converter makes of trainval_merged.json",
)
ADE20K = DataSet(
    "ADE20K",
    PLACES[label_layouts.ADE20K],
    "ADEChallengeData2016.zip (data.csail.mit.edu/places/ADEchallenge), unpacked",
)
COCO = DataSet(
    "COCO 2017",
    PLACES[label_layouts.COCO_STUFF],
    "val2017, the panoptic annotations (cocodataset.org) and stuffthingmaps_trainval2017.zip (COCO-Stuff)",
)
CITYSCAPES = DataSet(
    "Cityscapes", PLACES[label_layouts.CITYSCAPES_19], "leftImg8bit and gtFine (cityscapes-dataset.com)"
)
WATERBIRDS = DataSet(
    "Waterbirds",
    ("waterbird_complete95_forest2water2", "waterbirds"),
    "waterbird_complete95_forest2water2.tar.gz (github.com/kohpangwei/group_DRO), unpacked",
)
COCO_CAPTIONS = DataSet(
    "COCO captions",
    ("coco/dataset_coco.json", "dataset_coco.json"),
    "Karpathy's dataset_coco.json beside the folders val2014 and train2014",
)
FLICKR30K = DataSet(
    "Flickr30k",
    ("flickr30k/dataset_flickr30k.json", "dataset_flickr30k.json"),
    "Karpathy's dataset_flickr30k.json beside the images",
)
ALL = (
    *(IMAGENET, IMAGENET_V2, VOC, CONTEXT, ADE20K, COCO, CITYSCAPES, WATERBIRDS),
    *(COCO_CAPTIONS, FLICKR30K),
)
WDS = (
    "CLIP_benchmark's data sets: take folders such as `wds_cars` (huggingface.co/clip-benchmark), under `--data` or in "
    "`wds` there"
)

# Evaluation → the data set that it is of.
OF_TASK: Mapping[str, DataSet] = {
    "imagenet": IMAGENET,
    "imagenet_v2": IMAGENET_V2,
    "voc": VOC,
    "voc20": VOC,
    "grouping": VOC,
    "context": CONTEXT,
    "context_background": CONTEXT,
    "ade20k": ADE20K,
    "coco": COCO,
    "coco_object": COCO,
    "coco_stuff": COCO,
    "cityscapes19": CITYSCAPES,
    "waterbirds": WATERBIRDS,
}


def find_wds(root: pathlib.Path) -> pathlib.Path | None:
    """The folder that holds data sets of CLIP_benchmark; None if there is none."""
    for folder in (root / "wds", root):
        try:
            wds_images.find(str(folder))
            return folder
        except InputError:
            continue
    return None


def has_own_words(tree: pathlib.Path) -> bool:
    """Whether a tree brings classes of its own, so that nothing published is of it."""
    return (tree / vocabulary.FILE_NAME).is_file()
