"""Every published protocol against its re-derivation in PyTorch, on odd sizes, narrow and long images."""

import json

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import sklearn.metrics
import torch

from clippy_jax.datasets import label_layouts as layouts
from clippy_jax.errors import InputError
from clippy_jax.evaluators import protocols
from clippy_jax.evaluators.segmentation import Segmentation
from clippy_jax.inference import pamr
from clippy_jax.input_pipeline.evaluation_image import resized_bilinearly
from tests.evaluators import label_trees, torch_protocols, trees
from tests.evaluators.fake_model import FakeModel, drawn, unit

SIZES = [(61, 47), (101, 83), (40, 67), (190, 29)]  # of the last the long side is what limits
SETTINGS = dict(batch_size=2, image_size=32)
CASES = [
    ("sclip", layouts.VOC),
    ("sclip", layouts.CITYSCAPES_19),
    ("sclip", layouts.COCO_OBJECT),
    ("naclip", layouts.VOC),
    ("naclip", layouts.PASCAL_CONTEXT_59),
    ("clearclip", layouts.COCO_OBJECT),
    ("clearclip", layouts.VOC_20),
    ("proxyclip", layouts.PASCAL_CONTEXT_60),
    ("tcl", layouts.VOC),
    ("groupvit", layouts.VOC),
    ("talk2dino", layouts.COCO_OBJECT),
    ("dinotxt", layouts.CITYSCAPES_19),
    ("tips", layouts.VOC_20),
]


def names_of(protocol, layout) -> tuple[np.ndarray, list[int]]:
    """The embedding of every name and its class."""
    prompts, decision = protocol.prompts(layout.vocabulary)
    means = np.stack([np.mean([drawn(text) for text in of_name], axis=0) for of_name in prompts])
    return unit(means).astype(np.float64), list(decision.class_of_name)


@pytest.mark.parametrize("name, layout", CASES, ids=lambda value: getattr(value, "name", value))
def test_labels_are_those_of_pytorch(tmp_path, name, layout):
    protocol = protocols.read(name, layout)
    # Each size is a compilation; the first protocol on the first data set sees them all.
    images, truths = label_trees.tree(tmp_path, layout, SIZES if (name, layout) == CASES[0] else SIZES[:2])
    names, class_of_name = names_of(protocol, layout)
    model, total = FakeModel(), 0
    for path, truth in zip(images, truths):
        predicted = torch_protocols.labels(model, PIL.Image.open(path), protocol, names, class_of_name)
        kept = truth != 255
        classes = range(len(layout.vocabulary.classes))
        total += sklearn.metrics.confusion_matrix(truth[kept], predicted[kept], labels=classes)
    result = Segmentation(str(tmp_path), layout, name).run(FakeModel(2), **SETTINGS)
    differing = np.abs(np.array(result.confusion) - total).sum() / 2
    assert differing <= 1e-4 * total.sum() and (total.sum(axis=0) > 0).sum() > 2


def test_one_device_and_eight_count_alike(tmp_path):
    label_trees.tree(tmp_path, layouts.VOC, SIZES)
    one, eight = (
        Segmentation(str(tmp_path), layouts.VOC, "sclip").run(FakeModel(devices), **SETTINGS | dict(batch_size=8))
        for devices in (1, 8)
    )
    assert one.confusion == eight.confusion
    for name, values in one.counts.of.items():
        np.testing.assert_array_equal(values, eight.counts.of[name])


def test_refinement_is_that_of_pytorch_and_padding_tells_nothing():
    random = np.random.default_rng(0)
    image, scores = random.normal(size=(37, 29, 3)), random.normal(size=(37, 29, 4))
    expected = torch_protocols.pamr(*(torch.tensor(array).permute(2, 0, 1) for array in (image, scores)), 10)
    padded = [
        np.pad(array, ((0, 20), (0, 9), (0, 0)), constant_values=50).astype(np.float32) for array in (scores, image)
    ]
    scores, image = map(jnp.asarray, padded)
    size = jnp.array([37, 29])
    ours = pamr.refine(scores, pamr.affinities(image, size), size, 10)[:37, :29]
    np.testing.assert_allclose(ours, expected.permute(1, 2, 0), atol=2e-5)


@pytest.mark.parametrize("size", [(31, 47), (200, 90), (64, 64), (1, 1)])
def test_the_bilinear_resize_is_that_of_pytorch(size):
    image = trees.picture(np.random.default_rng(0), 64, 64)
    ours, expected = resized_bilinearly(image, size).astype(int), torch_protocols.resize(image, size).astype(int)
    assert np.abs(ours - expected).max() <= 1 and (ours != expected).mean() < 0.01


@pytest.mark.parametrize("width, height", [(500, 375), (333, 500), (2048, 1024), (190, 29), (683, 512)])
def test_images_are_fed_as_mmcv_resizes_them(width, height):
    mmcv = pytest.importorskip("mmcv")
    protocol = protocols.read("sclip", layouts.VOC)
    image = trees.picture(np.random.default_rng(0), width, height)
    theirs = mmcv.imrescale(np.asarray(image), (protocol.longest, protocol.size))
    fed = protocol.fed_size(width, height, 224, 16)
    assert fed == theirs.shape[1::-1]
    assert np.abs(resized_bilinearly(image, fed).astype(int) - theirs).max() <= 1


def test_figures_are_those_of_mmsegmentation(tmp_path):
    IoUMetric = pytest.importorskip("mmseg.evaluation.metrics.iou_metric").IoUMetric
    layout = layouts.CITYSCAPES_19
    images, truths = label_trees.tree(tmp_path, layout, SIZES[:3])
    protocol = protocols.read("sclip", layout)
    predicted = [
        torch_protocols.labels(FakeModel(), PIL.Image.open(path), protocol, *names_of(protocol, layout))
        for path in images
    ]
    areas = [
        IoUMetric.intersect_and_union(torch.tensor(labels), torch.tensor(truth), 19, 255)
        for labels, truth in zip(predicted, truths)
    ]
    theirs = IoUMetric.total_area_to_metrics(*(sum(area) for area in zip(*areas)), ["mIoU"])
    ours = Segmentation(str(tmp_path), layout, "sclip").run(FakeModel(2), **SETTINGS)
    shares = {
        "IoU": ours.per_class_iou.values(),
        "Acc": ours.per_class_accuracy.values(),
    }
    for name, values in shares.items():
        np.testing.assert_allclose(np.array(list(values), float), theirs[name], atol=2e-3)
    assert ours.miou == pytest.approx(np.nanmean(theirs["IoU"]), abs=1e-3)
    assert ours.mean_accuracy == pytest.approx(np.nanmean(theirs["Acc"]), abs=1e-3)
    assert ours.pixel_accuracy == pytest.approx(theirs["aAcc"], abs=1e-3)


def test_names_are_those_of_the_programs():
    def asked(name, layout):
        protocol = protocols.read(name, layout)
        prompts, decision = protocol.prompts(layout.vocabulary)
        return prompts, decision, protocol

    prompts, decision, sclip = asked("sclip", layouts.VOC)
    assert len(prompts[0]) == 80 and decision.class_of_name.count(0) == 26 and decision.class_of_name.count(15) == 7
    assert (sclip.scale, sclip.threshold, decision.smallest_share) == (65, 0.1, 0.1)
    assert "a bad photo of a ship." in sum(prompts, []) and "a bad photo of a pottedplant." in sum(prompts, [])
    assert "a bad photo of a trafficlight." in sum(asked("sclip", layouts.CITYSCAPES_19)[0], [])
    stuff = sum(asked("clearclip", layouts.COCO_STUFF)[0], [])
    assert "a bad photo of a building-other." in stuff and "a bad photo of a trafficlight." in stuff
    assert asked("proxyclip", layouts.COCO_OBJECT)[1].class_of_name.count(0) == 17
    prompts, decision, _ = asked("tcl", layouts.VOC)
    assert len(prompts[0]) == 9 and decision.class_of_name == tuple(range(1, 21))
    assert asked("groupvit", layouts.ADE20K)[0][0] == ["a photo of a wall."]
    assert [len(asked(name, layouts.ADE20K)[0][0]) for name in ("talk2dino", "dinotxt", "tips")] == [7, 80, 9]
    assert asked("naclip", layouts.VOC)[2].window == 0 and asked("naclip", layouts.ADE20K)[2].window == 224
    assert [asked(name, layouts.CITYSCAPES_19)[2].size for name in ("sclip", "naclip", "clearclip", "proxyclip")] == [
        560,
        560,
        448,
        448,
    ]


def test_every_packaged_protocol_fits_every_data_set():
    for name in protocols.names():
        for layout in vars(layouts).values():
            if isinstance(layout, layouts.LabelLayout):
                protocols.read(name, layout)


def test_a_protocol_of_ones_own(tmp_path):
    label_trees.tree(tmp_path / "data", layouts.VOC, SIZES)
    own = tmp_path / "own.json"
    own.write_text(
        json.dumps({"based_on": "sclip", "templates": ["the {}"], "data_sets": {"VOC21": {"threshold": 0.2}}})
    )
    result = Segmentation(str(tmp_path / "data"), layouts.VOC, str(own)).run(FakeModel(), **SETTINGS)
    assert result.protocol == str(own) and (result.options.threshold, result.options.scale) == (0.2, 65)
    assert result.options.templates == ["the {}"] and "SCLIP" not in result.report()
    assert "59.6" in Segmentation(str(tmp_path / "data"), layouts.VOC, "sclip").run(FakeModel(), **SETTINGS).report()


@pytest.mark.parametrize(
    "record, message",
    [
        ({"windows": 3}, "'windows' is not known; known here: based_on, data_sets, source, split, resize"),
        ({"window": "3"}, "window is '3', which is no value for it"),
        ({"published": {"us": ["x"] * 8}}, "published is {'us': ['x'"),
        ({"window": 1.5}, "window is 1.5"),
        ({"filter": "nearest"}, "filter is 'nearest'; it must be one of bicubic, bilinear"),
        ({"templates": ["a photo"]}, "templates is"),
        ({"based_on": "other"}, "based_on is 'other'; it must be one of standard, public, sclip"),
        ({"data_sets": {"VOC": {}}}, "data_sets has 'VOC'; it maps VOC21, PC60"),
        ({"data_sets": {"VOC21": {"size_": 1}}}, "'size_' is not known"),
        ([], "must hold a JSON object"),
    ],
)
def test_wrong_files_are_one_line(tmp_path, record, message):
    (tmp_path / "own.json").write_text(json.dumps(record))
    with pytest.raises(InputError) as error:
        protocols.read(str(tmp_path / "own.json"), layouts.VOC)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_protocol_is_answered_with_the_list(tmp_path):
    with pytest.raises(InputError, match="'other' is not known; known here: standard, public, .* JSON file"):
        protocols.read("other", layouts.VOC)
    with pytest.raises(InputError, match="missing.json cannot be read as JSON .No such file"):
        protocols.read(str(tmp_path / "missing.json"), layouts.VOC)
