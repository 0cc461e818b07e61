import json
import os

import numpy as np
import PIL.Image

from clippy_jax.analysis import segment_files
from clippy_jax.analysis.segments import name_pixels

WORDS = ["red", "background", "blue"]
COLOURS = {0: (230, 159, 0), 2: (86, 180, 233)}


def test_files_hold_the_labels_and_the_figures(tmp_path):
    similarities = np.zeros((1, 4, 3), np.float32)
    similarities[0, 0, 0] = similarities[0, 1:, 1] = 1
    segments = name_pixels(similarities, 50.0, 20, 40)
    overlay = PIL.Image.new("RGB", (10, 10))
    figures = segment_files.summary(segments, WORDS, COLOURS, "runs/x", (96, 192))
    figures |= {"image": os.fsdecode(b"caf\xe9.jpg"), "word": "caf\u00e9"}  # a name that is no UTF-8
    paths = segment_files.write(tmp_path, "image", overlay, segment_files.index_mask(segments, COLOURS), figures)
    assert [path.rpartition("/")[2] for path in paths] == ["image_overlay.png", "image_mask.png", "image_segments.json"]

    mask = PIL.Image.open(paths[1])
    assert mask.mode == "P"
    np.testing.assert_array_equal(np.asarray(mask), segments.labels)
    assert mask.convert("RGB").getpixel((0, 0)) == (230, 159, 0)

    with open(paths[2], encoding="utf-8") as file:
        text = file.read()
    read = json.loads(text)
    assert read["image"] == os.fsdecode(b"caf\xe9.jpg") and '"caf\u00e9"' in text
    assert {key: read[key] for key in ("checkpoint", "width", "height", "fed_width", "fed_height")} == {
        "checkpoint": "runs/x",
        "width": 40,
        "height": 20,
        "fed_width": 192,
        "fed_height": 96,
    }
    red, background, blue = read["words"]
    assert (red["index"], red["word"], red["colour"], red["pixels"]) == (0, "red", "#e69f00", 200)
    assert red["share"] == 0.25 and 0.9 < red["mean_confidence"] <= 1
    assert background["pixels"] == 600 and blue["pixels"] == 0 and blue["mean_confidence"] is None
