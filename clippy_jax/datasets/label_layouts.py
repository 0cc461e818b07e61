"""How each segmentation data set is laid out: one description each, read by `segmentation_tree.py`."""

import dataclasses

from clippy_jax.datasets import vocabulary
from clippy_jax.datasets.vocabulary import IGNORED_LABEL, SegmentationVocabulary


@dataclasses.dataclass(frozen=True)
class LabelLayout:
    """Where the images and masks of a data set lie, how they pair, and what the values in its masks mean.

    Paths are relative to the tree's root, with `{split}` for the split. Of several folders the first that exists is
    taken, since a data set is not always unpacked in the same way. A mask lies where its image does, in the other
    folder and with the other ending. A mask's pixels are values of the vocabulary, save where `segments` is given.
    """

    name: str
    example: str  # a root as its distributor calls it
    image_folders: tuple[str, ...]
    mask_folders: tuple[str, ...]
    vocabulary: SegmentationVocabulary
    split: str = "val"  # by default
    image_ending: str = ".jpg"
    mask_ending: str = ".png"
    listing: str = ""  # file with the names of a split's images; "" for all images in the folder, however deep
    ignored: tuple[int, ...] = (IGNORED_LABEL,)  # values that are not counted
    background: tuple[int, ...] = ()  # values that mean background beside the vocabulary's own
    segments: str = ""  # COCO's panoptic JSON, for masks whose colours are numbers of segments
    column: str = ""  # what tables of open-vocabulary segmentation call it, and protocols of theirs; "" if not in them

    @property
    def has_background(self) -> bool:
        """Whether class 0 stands for everything that has no class of its own."""
        return self.vocabulary.classes[0] == vocabulary.BACKGROUND


VOC = LabelLayout(
    name="PASCAL VOC",
    example="VOCdevkit/VOC2012",
    image_folders=("JPEGImages",),
    mask_folders=("SegmentationClass",),
    listing="ImageSets/Segmentation/{split}.txt",
    vocabulary=vocabulary.segmentation_data_set("voc.json", "VOC"),
    column="VOC21",
)
VOC_20 = dataclasses.replace(
    VOC,
    name="PASCAL VOC, 20 classes",
    vocabulary=vocabulary.restricted(VOC.vocabulary, VOC.vocabulary.values[1:], "VOC"),
    ignored=(0, IGNORED_LABEL),
    column="VOC20",
)

# The masks are those that MMSegmentation's converter makes of `trainval_merged.json`: 59 classes and 0 for the rest.
PASCAL_CONTEXT_60 = LabelLayout(
    name="PASCAL Context, 59 classes and background",
    example="VOCdevkit/VOC2010",
    image_folders=("JPEGImages",),
    mask_folders=("SegmentationClassContext",),
    listing="ImageSets/SegmentationContext/{split}.txt",
    vocabulary=vocabulary.segmentation_data_set("pascal_context.json", "PASCAL Context", background_value=0),
    column="PC60",
)
PASCAL_CONTEXT_59 = dataclasses.replace(
    PASCAL_CONTEXT_60,
    name="PASCAL Context, 59 classes",
    vocabulary=vocabulary.segmentation_data_set("pascal_context.json", "PASCAL Context"),
    ignored=(0, IGNORED_LABEL),
    column="PC59",
)

ADE20K = LabelLayout(
    name="ADE20K, 150 classes",
    example="ADEChallengeData2016",
    image_folders=("images/{split}",),
    mask_folders=("annotations/{split}",),
    split="validation",
    vocabulary=vocabulary.segmentation_data_set("ade20k.json", "ADE20K"),
    ignored=(0, IGNORED_LABEL),
    column="ADE",
)

COCO_STUFF = LabelLayout(
    name="COCO-Stuff, 171 classes",
    example="coco",
    image_folders=("{split}", "images/{split}"),
    mask_folders=("stuffthingmaps/{split}", "annotations/stuffthingmaps/{split}", "annotations/{split}"),
    split="val2017",
    vocabulary=vocabulary.segmentation_data_set("coco_stuff.json", "COCO-Stuff"),
    column="Stuff",
)
# As GroupViT and those after it have it: all stuff is background, and so is what COCO-Stuff leaves unlabelled.
COCO_OBJECT = dataclasses.replace(
    COCO_STUFF,
    name="COCO-Object, 80 classes and background",
    vocabulary=vocabulary.segmentation_data_set("coco_object.json", "COCO-Object", background_value=IGNORED_LABEL),
    ignored=(),
    background=tuple(value for value in COCO_STUFF.vocabulary.values if value >= 91),
    column="Object",
)
COCO_PANOPTIC = dataclasses.replace(
    COCO_STUFF,
    name="COCO panoptic, 133 classes",
    mask_folders=("annotations/panoptic_{split}", "panoptic_{split}"),
    segments="annotations/panoptic_{split}.json",
    vocabulary=vocabulary.segmentation_data_set("coco_panoptic.json", "COCO panoptic"),
    column="",
)

# The 27 classes that are not void (ids 7 to 33), as unsupervised segmentation counts them (PiCIE, STEGO).
CITYSCAPES = LabelLayout(
    name="Cityscapes, 27 classes",
    example="cityscapes, with leftImg8bit and gtFine",
    image_folders=("leftImg8bit/{split}",),
    mask_folders=("gtFine/{split}",),
    image_ending="_leftImg8bit.png",
    mask_ending="_gtFine_labelIds.png",
    vocabulary=vocabulary.segmentation_data_set("cityscapes.json", "Cityscapes"),
    ignored=(*range(7), IGNORED_LABEL),
)
# Those of the benchmark, which its scripts number from 0 to 18 as "trainIds".
CITYSCAPES_19 = dataclasses.replace(
    CITYSCAPES,
    name="Cityscapes, 19 classes",
    vocabulary=vocabulary.restricted(
        CITYSCAPES.vocabulary, (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33), "Cityscapes"
    ),
    ignored=(*range(7), 9, 10, 14, 15, 16, 18, 29, 30, 34, IGNORED_LABEL),
    column="City",
)
