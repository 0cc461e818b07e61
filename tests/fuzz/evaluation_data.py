"""Damaged evaluation data: vocabularies, lists, masks, tables, Karpathy splits, protocols and results."""

import functools
import json
import pathlib

import numpy as np
import PIL.Image

from clippy_jax import compare
from clippy_jax.datasets import image_folder, label_layouts, retrieval_pairs, segmentation_tree, waterbirds_tree
from clippy_jax.evaluators.protocols import records
from clippy_jax.inference.image import open_image
from tests.evaluators import trees
from tests.fuzz.damage import damaged, damaged_json
from tests.fuzz.faults import Target
from tests.inputs import encode, make_photo

_VOCABULARY = json.dumps({"classes": trees.CLASSES, "folded_into_background": trees.FOLDED})


@functools.cache
def _voc(folder: pathlib.Path) -> pathlib.Path:
    return trees.voc_tree(folder / "voc", [(24, 20)] * 3)


@functools.cache
def _imagenet(folder: pathlib.Path) -> pathlib.Path:
    return trees.image_folder(folder / "imagenet", 6)


@functools.cache
def _waterbirds(folder: pathlib.Path) -> pathlib.Path:
    tree = trees.waterbirds_tree(folder / "waterbirds", "0101", "0011", "2222")
    (tree / "vocabulary.json").write_text(
        json.dumps({"birds": ["a", "b"], "places": ["c", "d"], "background": "e", "templates": ["a {c}"]})
    )
    return tree


@functools.cache
def _panoptic(folder: pathlib.Path) -> pathlib.Path:
    root = folder / "coco"
    (root / "val2017").mkdir(parents=True)
    (root / "panoptic_val2017").mkdir()
    trees.picture(np.random.default_rng(0), 24, 20).save(root / "val2017" / "000.jpg")
    pixels = np.zeros((20, 24, 3), np.uint8)
    pixels[:, 12:, 0] = 1
    PIL.Image.fromarray(pixels).save(root / "panoptic_val2017" / "000.png")
    return root


def _segments() -> dict:
    segments = [{"id": 1, "category_id": 1, "area": 9, "iscrowd": 0, "bbox": [0, 0, 1, 1]}]
    return {"annotations": [{"file_name": "000.png", "image_id": 0, "segments_info": segments}] * 2}


def _karpathy(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    if not (folder / "val2014").exists():
        (folder / "val2014").mkdir()
        make_photo(0).save(folder / "val2014" / "0.jpg")
    sentences = [{"raw": "a photo", "tokens": ["a", "photo"]}, {"raw": "one more"}]
    image = {"filepath": "val2014", "filename": "0.jpg", "split": "test", "sentences": sentences, "imgid": 0}
    return damaged_json({"images": [image, image], "dataset": "coco"}, random)


def _read_karpathy(content: bytes, folder: pathlib.Path) -> None:
    (folder / "karpathy.json").write_bytes(content)
    pairs = retrieval_pairs.read(str(folder / "karpathy.json"))
    for index in range(len(pairs.images)):
        try:
            pairs.open_image(index)
        except OSError:  # counted as unreadable by the evaluation
            pass


def _read_panoptic(content: bytes, folder: pathlib.Path) -> None:
    root = _panoptic(folder)
    layout = label_layouts.COCO_PANOPTIC
    file = root / layout.segments.replace("{split}", layout.split)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    segmentation_tree.read(str(root), layout).labels(0)


def _read_vocabulary_of_scenes(content: bytes, folder: pathlib.Path) -> None:
    (_voc(folder) / "vocabulary.json").write_bytes(content)
    segmentation_tree.read(str(_voc(folder)), label_layouts.VOC)


def _read_vocabulary_of_classes(content: bytes, folder: pathlib.Path) -> None:
    (_imagenet(folder) / "vocabulary.json").write_bytes(content)
    image_folder.read(str(_imagenet(folder)))


def _read_vocabulary_of_birds(content: bytes, folder: pathlib.Path) -> None:
    (_waterbirds(folder) / "vocabulary.json").write_bytes(content)
    waterbirds_tree.read(str(_waterbirds(folder)))


def _vocabulary_of_classes(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    classes = {"class_a": "apple", "class_b": "Zebra", "class_c": "car"}
    return damaged_json({"classes": classes, "templates": ["a photo of {a} {c}", "many {c}."]}, random)


def _vocabulary_of_birds(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    words = {"birds": ["a", "b"], "places": ["c", "d"], "background": "e", "templates": ["a {c}"]}
    return damaged_json(words, random)


def _metadata(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    rows = ["img_id,img_filename,y,split,place,place_filename"]
    rows += [f'{i},{i:03d}.Species/photo_{i:04d}.jpg,0,2,1,"/a/place,1.jpg"' for i in range(3)]
    return damaged("\n".join(rows).encode(), random)


def _read_metadata(content: bytes, folder: pathlib.Path) -> None:
    tree = _waterbirds(folder)
    (tree / "vocabulary.json").unlink(missing_ok=True)
    (tree / "metadata.csv").write_bytes(content)
    waterbirds_tree.read(str(tree))


def _read_listing(content: bytes, folder: pathlib.Path) -> None:
    tree = _voc(folder)
    (tree / "vocabulary.json").write_text(_VOCABULARY)
    (tree / "ImageSets/Segmentation/other.txt").write_bytes(content)
    segmentation_tree.read(str(tree), label_layouts.VOC, "other")


def _mask(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    content = (_voc(folder) / "SegmentationClass/scene_001.png").read_bytes()
    head = int(random.choice([64, len(content)]))
    return damaged(content[:head], random) + content[head:]


def _read_mask(content: bytes, folder: pathlib.Path) -> None:
    tree = _voc(folder)
    (tree / "vocabulary.json").write_text(_VOCABULARY)
    (tree / "SegmentationClass/scene_000.png").write_bytes(content)
    scenes = segmentation_tree.read(str(tree), label_layouts.VOC)
    scenes.size(0)
    scenes.labels(0)


def _photo(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    """With EXIF, which says which way up it is."""
    image = make_photo(int(random.integers(4)), 40, 30)
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010E] = int(random.integers(9)), "a description"
    kind = ("JPEG", "PNG", "WEBP", "TIFF")[random.integers(4)]
    content = encode(image, kind, exif=exif)
    head = int(random.choice([200, len(content)]))
    return damaged(content[:head], random) + content[head:]


def _read_photo(content: bytes, folder: pathlib.Path) -> None:
    (folder / "photo.jpg").write_bytes(content)
    assert open_image(folder / "photo.jpg").mode == "RGB"


def _protocol(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    record = {
        "based_on": "standard",
        "source": "a paper",
        "resize": "short_side",
        "size": 32,
        "window": 16,
        "stride": 8,
        "templates": ["a photo of {}", "many {}"],
        "names": {"apple": ["apple", "fruit"]},
        "background": "probability",
        "threshold": 0.3,
        "published": {"they": [1.0, None, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]},
        "data_sets": {"VOC21": {"threshold": 0.2}},
    }
    return damaged_json(record, random)


def _read_protocol(content: bytes, folder: pathlib.Path) -> None:
    (folder / "protocol.json").write_bytes(content)
    protocol = records.read(str(folder / "protocol.json"), label_layouts.VOC)
    protocol.check_window(32, 8)
    size = protocol.fed_size(50, 40, 32, 8)
    for length in size:
        protocol.side(length, 8)
    words = segmentation_tree.vocabulary.segmentation_vocabulary(folder, label_layouts.VOC.vocabulary)
    protocol.prompt_set(words)


@functools.cache
def _results(folder: pathlib.Path) -> tuple[bytes, bytes]:
    """A JSON of results and the counts of each image."""
    count = {"right": np.array([1, 0, 1]), "one": np.ones(3, int), "names": np.array(["a", "b", "c"])}
    np.savez_compressed(folder / "counts.npz", **{f"imagenet/{name}": values for name, values in count.items()})
    results = {"imagenet": {"top1": 2 / 3, "counts": {"top1": ["right", "one", "pooled"]}}}
    return json.dumps(results).encode(), (folder / "counts.npz").read_bytes()


def _two_results(random: np.random.Generator, folder: pathlib.Path) -> tuple[bytes, bytes]:
    results, counts = _results(folder)
    if random.random() < 0.5:
        return damaged_json(json.loads(results), random), counts
    return results, damaged(counts, random)


def _read_results(content: tuple[bytes, bytes], folder: pathlib.Path) -> None:
    for name, (results, counts) in {"first": _results(folder), "second": content}.items():
        (folder / f"{name}.json").write_bytes(results)
        (folder / f"{name}.counts.npz").write_bytes(counts)
    compare.compared(folder / "first.json", folder / "second.json")


TARGETS = (
    Target("vocabulary of classes", _vocabulary_of_classes, _read_vocabulary_of_classes),
    Target(
        "vocabulary of scenes",
        lambda random, folder: damaged_json(json.loads(_VOCABULARY), random),
        _read_vocabulary_of_scenes,
    ),
    Target("vocabulary of birds", _vocabulary_of_birds, _read_vocabulary_of_birds),
    Target("table of birds", _metadata, _read_metadata),
    Target("list of a split", lambda random, folder: damaged(b"scene_000\nscene_001\n", random), _read_listing),
    Target("mask", _mask, _read_mask),
    Target("panoptic JSON", lambda random, folder: damaged_json(_segments(), random), _read_panoptic),
    Target("Karpathy split", _karpathy, _read_karpathy),
    Target("photo", _photo, _read_photo),
    Target("protocol", _protocol, _read_protocol),
    Target("results", _two_results, _read_results),
)
