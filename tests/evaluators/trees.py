"""Small trees in the real layouts, drawn from a seed."""

import json
import pathlib
from collections.abc import Sequence

import numpy as np
import PIL.Image

from tests.inputs import encode, make_tar

CLASSES = ("background", "apple", "zebra", "car")
FOLDED = ("grass", "sand")
PALETTE = [channel for index in range(256) for channel in (index, (index * 67) % 256, (index * 149) % 256)]


def picture(random: np.random.Generator, width: int, height: int) -> PIL.Image.Image:
    """Smooth blobs of colour."""
    coarse = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BILINEAR)


def save_mask(labels: np.ndarray, path: pathlib.Path) -> None:
    """Writes labels as a palette PNG, as PASCAL VOC does."""
    mask = PIL.Image.fromarray(labels.astype(np.uint8))
    mask.putpalette(PALETTE)
    mask.save(path)


def voc_tree(
    root: pathlib.Path, sizes: Sequence[tuple[int, int]], split: str = "val", words: bool = True, seed: int = 0
) -> pathlib.Path:
    """A PASCAL-VOC-shaped tree with one scene for each (width, height); labels 0-3 in blocks, with some 255."""
    random = np.random.default_rng(seed)
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / part).mkdir(parents=True)
    names = [f"scene_{index:03d}" for index in range(len(sizes))]
    for name, (width, height) in zip(names, sizes):
        picture(random, width, height).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        coarse = PIL.Image.fromarray(random.choice(np.array([0, 1, 2, 3, 255], np.uint8), (6, 6)))
        labels = np.asarray(coarse.resize((width, height), PIL.Image.Resampling.NEAREST)).copy()
        labels[0, 0] = 3
        save_mask(labels, root / "SegmentationClass" / f"{name}.png")
    (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
    if words:
        (root / "vocabulary.json").write_text(json.dumps({"classes": CLASSES, "folded_into_background": FOLDED}))
    return root


def image_folder(root: pathlib.Path, images: int, seed: int = 0) -> pathlib.Path:
    """An ImageNet-shaped tree of three classes in turn, with a vocabulary of its own."""
    random = np.random.default_rng(seed)
    classes = {"class_a": "apple", "class_b": "Zebra", "class_c": "car"}
    for name in classes:
        (root / name).mkdir(parents=True)
    for index in range(images):
        name = list(classes)[index % len(classes)]
        picture(random, 40 + index % 7, 50 - index % 5).save(root / name / f"{index:03d}.jpg")
    (root / "vocabulary.json").write_text(
        json.dumps({"classes": classes, "templates": ["a photo of {a} {c}", "many {c}.", "a photo of {a} {c}"]})
    )
    return root


def wds(root: pathlib.Path, images: int, tars: int = 2, seed: int = 0) -> pathlib.Path:
    """A data set as CLIP_benchmark writes them: the classes of `image_folder` in turn, one image a tar more or less."""
    random = np.random.default_rng(seed)
    (root / "test").mkdir(parents=True)
    (root / "classnames.txt").write_text("apple\nZebra\ncar\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\nmany {c}.\n")
    (root / "test" / "nshards.txt").write_text(f"{tars}\n")
    for number in range(tars):
        members = {}
        for index in range(number, images, tars):
            kind = ("webp", "png", "jpg")[index % 3]
            image = picture(random, 40 + index % 7, 50 - index % 5)
            members[f"s{index:07d}.{kind}"] = encode(image, {"jpg": "JPEG"}.get(kind, kind), lossless=True)
            members[f"s{index:07d}.cls"] = str(index % 3).encode()
        make_tar(root / "test" / f"{number}.tar", members)
    return root


def waterbirds_tree(root: pathlib.Path, birds: str, places: str, splits: str, seed: int = 0) -> pathlib.Path:
    """A Waterbirds tree with one photo for each position of three strings of the columns' numbers."""
    random = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    rows = ["img_id,img_filename,y,split,place,place_filename"]
    for index, (bird, place, split) in enumerate(zip(birds, places, splits, strict=True)):
        name = f"{index % 3:03d}.Species/photo_{index:04d}.jpg"
        (root / name).parent.mkdir(exist_ok=True)
        picture(random, 40 + index % 7, 50 - index % 5).save(root / name, quality=95)
        rows.append(f'{index + 1},{name},{bird},{split},{place},"/a/place,{place}.jpg"')
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root
