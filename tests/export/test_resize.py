"""The page's resize and sizes, run by Node.js, beside Pillow's and our own."""

import json
import pathlib
import shutil
import subprocess

import numpy as np
import PIL.Image
import pytest

from clippy_jax.export import web
from clippy_jax.input_pipeline.evaluation_image import LONGEST_ASPECT, whole_image_size
from tests.inputs import make_photo

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")


def run(script: str, folder: pathlib.Path, **values) -> str:
    """What a module prints in whose scope the values are."""
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    file = folder / "script.mjs"
    file.write_text(constants + script.replace("PAGE", web.PAGE.as_uri()))
    return subprocess.run([NODE, str(file)], check=True, capture_output=True, text=True).stdout


SIZES = [
    ((80, 60), (80, 60)),  # as it is
    ((40, 40), (97, 120)),  # larger
    ((81, 47), (33, 90)),  # narrower and higher
    ((60, 130), (31, 33)),  # the height loses more than twice what the width does
    ((300, 200), (64, 43)),
    ((1, 5), (8, 8)),
]


@pytest.mark.parametrize("channels", [3, 4])
def test_resize_is_pillows_to_the_last_bit(tmp_path, channels):
    random = np.random.default_rng(0)
    cases = []
    for i, (size, new) in enumerate(SIZES):
        # Hard edges too, where the kernel overshoots and values are clipped.
        edges = PIL.Image.fromarray(random.choice([0, 255], (*size[::-1], 3)).astype(np.uint8))
        for image in (make_photo(i, *size), edges):
            pixels = np.asarray(image.convert("RGBA" if channels == 4 else "RGB"))
            expected = np.asarray(image.resize(new, PIL.Image.Resampling.BICUBIC))
            cases.append(
                {"pixels": pixels.ravel().tolist(), "sizes": (*size, *new), "expected": expected.ravel().tolist()}
            )
    script = """
        import { resize } from "PAGE/resize.js";
        const wrong = cases.map(({ pixels, sizes, expected }) => {
          const result = resize(Uint8Array.from(pixels), channels, ...sizes);
          return expected.filter((value, i) => value !== result[i]).length + Math.abs(expected.length - result.length);
        });
        console.log(JSON.stringify(wrong));
    """
    assert json.loads(run(script, tmp_path, cases=cases, channels=channels)) == [0] * len(cases)


def test_images_are_fed_at_the_same_size(tmp_path):
    sizes = [(224, 224), (500, 375), (375, 500), (4000, 100), (31, 33), (640, 427), (1, 9), (360, 240), (104, 64)]
    settings = [(224, 16), (96, 8), (64, 16)]
    expected = [[whole_image_size(*size, *fed) for size in sizes] for fed in settings]
    script = """
        import { fedSize } from "PAGE/segment.js";
        console.log(JSON.stringify(settings.map(([image_size, patch_size]) =>
          sizes.map((size) => fedSize(...size, { image_size, patch_size, longest_aspect })))));
    """
    result = json.loads(run(script, tmp_path, sizes=sizes, settings=settings, longest_aspect=LONGEST_ASPECT))
    assert result == [[list(size) for size in of_setting] for of_setting in expected]
