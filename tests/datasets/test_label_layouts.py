import pytest

from clippy_jax.datasets import label_layouts as layouts
from clippy_jax.evaluators import published
from clippy_jax.evaluators.protocols import COLUMNS

ALL = [value for value in vars(layouts).values() if isinstance(value, layouts.LabelLayout)]
# Data set → number of classes and, of some classes, the value in the masks (COCO panoptic: category id)
FACTS = [
    (layouts.VOC, 21, {"background": 0, "aeroplane": 1, "person": 15, "television monitor": 20}),
    (layouts.VOC_20, 20, {"aeroplane": 1, "person": 15, "television monitor": 20}),
    (layouts.PASCAL_CONTEXT_59, 59, {"aeroplane": 1, "cow": 20, "person": 37, "sky": 47, "wood": 59}),
    (layouts.PASCAL_CONTEXT_60, 60, {"background": 0, "aeroplane": 1, "grass": 29, "wood": 59}),
    (layouts.ADE20K, 150, {"wall": 1, "bed": 8, "person": 13, "car": 21, "sconce": 135, "clock": 149, "flag": 150}),
    (
        layouts.COCO_STUFF,
        171,
        {"person": 0, "stop sign": 12, "toothbrush": 89, "banner": 91, "grass": 123, "wood": 181},
    ),
    (layouts.COCO_OBJECT, 81, {"person": 0, "traffic light": 9, "dining table": 66, "tv": 71, "toothbrush": 89}),
    (layouts.COCO_PANOPTIC, 133, {"person": 1, "toothbrush": 90, "banner": 92, "tree-merged": 184, "rug-merged": 200}),
    (layouts.CITYSCAPES, 27, {"road": 7, "polegroup": 18, "sky": 23, "person": 24, "caravan": 29, "bicycle": 33}),
    (
        layouts.CITYSCAPES_19,
        19,
        {"road": 7, "building": 11, "pole": 17, "sky": 23, "bus": 28, "train": 31, "bicycle": 33},
    ),
]


@pytest.mark.parametrize("layout, count, anchors", FACTS, ids=lambda value: getattr(value, "name", None))
def test_classes_have_their_values(layout, count, anchors):
    words = layout.vocabulary
    assert len(words.classes) == len(words.values) == count
    assert len(set(words.classes)) == len(set(words.values)) == len(set(words.prompts[:count])) == count
    value_of = dict(zip(words.classes, words.values))
    assert {name: value_of[name] for name in anchors} == anchors
    assert all(prompt.startswith("a photo of a") and "-" not in prompt for prompt in words.prompts)
    assert layout.has_background == (words.classes[0] == "background")


def test_every_layout_is_checked():
    assert {layout.name for layout in ALL} == {layout.name for layout, _, _ in FACTS}
    measured = published.tables()["segmentation"].columns  # "DATA SET, PROTOCOL, SPLIT"
    assert {name.rsplit(", ", 2)[0] for name in measured} <= {layout.name for layout in ALL}


def test_coco_leaves_out_the_ids_that_no_category_has():
    unused = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}  # the category ids less 1
    assert set(range(182)) - set(layouts.COCO_STUFF.vocabulary.values) == unused
    assert layouts.COCO_OBJECT.background == tuple(range(91, 182))
    things = layouts.COCO_OBJECT.vocabulary.classes[1:]
    assert things == layouts.COCO_STUFF.vocabulary.classes[:80] == layouts.COCO_PANOPTIC.vocabulary.classes[:80]


def test_tables_of_open_vocabulary_segmentation_have_eight_columns():
    assert sorted(layout.column for layout in ALL if layout.column) == sorted(COLUMNS)
    assert all(layout.has_background == (layout.column in COLUMNS[:3]) for layout in ALL if layout.column)
