import json

import numpy as np
import pytest

from clippy_jax.analysis import backgrounds
from clippy_jax.analysis.background_figure import Similarity
from clippy_jax.shapes.scenes import CLASSES, PLACE_NAMES


def test_the_same_object_stands_on_every_place():
    pictures = backgrounds.of_shapes(scenes=1, image_size=64)
    assert len(pictures.objects) == len(CLASSES) * len(PLACE_NAMES)
    for number in (0, 5):
        these = np.flatnonzero(pictures.objects == number)
        images, covers = map(np.stack, zip(*map(pictures.read, these)))
        assert all((cover == covers[0]).all() for cover in covers)
        inside, outside = covers[0], ~covers[0]
        difference = np.abs(images.astype(float) - images[0]).mean(axis=-1)[1:]
        assert difference[:, inside].mean() < 3 and difference[:, outside].mean() > 30


def test_scenes_are_rendered_when_they_are_read():
    pictures = backgrounds.of_shapes(scenes=1000, image_size=64)
    image, cover = pictures.read(len(pictures.objects) - 1)
    assert (
        len(pictures.objects) == 1000 * len(CLASSES) * len(PLACE_NAMES) and image.shape == (64, 64, 3) and cover.any()
    )


def test_similarities_are_averaged_by_object_and_place():
    similarities = np.array([[0.9, 0.1], [0.5, 0.1], [0.2, 0.6], [0.7, 0.3]])
    of = Similarity.of(similarities, np.array([0, 0, 1, 0]), np.array([0, 1, 1, 0]), 2)
    np.testing.assert_allclose(of.own, [[0.8, 0.5], [np.nan, 0.6]])
    np.testing.assert_allclose(of.contrast, np.mean([0.8, 0.4, 0.4, 0.4]))
    np.testing.assert_allclose(of.differences, [[0.15, -0.15], [np.nan, 0]], atol=1e-12)
    assert of.effect == pytest.approx(np.sqrt(0.15**2 * 2 / 3) / 0.5)


def test_patches_of_an_object():
    cover = np.zeros((64, 64), bool)
    cover[:20, :32] = True
    assert backgrounds.covered(cover, (4, 4)).tolist() == [[True, True, False, False]] + [[False] * 4] * 3
    cover[:] = False
    cover[40, 40] = True  # none that it covers half of
    assert np.argwhere(backgrounds.covered(cover, (4, 4))).tolist() == [[2, 2]]
    assert np.argwhere(backgrounds.most_similar(np.arange(20).reshape(4, 5))).tolist() == [[3, 3], [3, 4]]


@pytest.mark.parametrize("data", ["shapes", "waterbirds"])
def test_a_run_is_measured(demo_folder, tmp_path, capsys, data):
    flags = ["--shapes", "--scenes=1"] if data == "shapes" else [f"--waterbirds={demo_folder}/data/shapes/waterbirds"]
    checkpoint = f"{demo_folder}/runs/shapes"
    backgrounds.main([f"--checkpoint={checkpoint}", *flags, f"--output={tmp_path}/out"])
    printed = capsys.readouterr().out
    assert "How to read this" in printed and "| landbird" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "backgrounds.json",
        "backgrounds.md",
        "backgrounds.png",
    ]
    figures = json.loads((tmp_path / "out" / "backgrounds.json").read_text())[checkpoint]
    objects = len(CLASSES) if data == "shapes" else 2
    assert np.shape(figures["patches"]["similarity"]) == (objects, len(figures["places"]))
    assert figures["pooled"]["effect"] > 0


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "add either --shapes or --waterbirds=DIR"),
        (["--shapes", "--waterbirds=x"], "add either --shapes or --waterbirds=DIR"),
        (["--waterbirds=nowhere"], "nowhere/metadata.csv does not exist"),
        (["--shapes", "--scenes=0"], "--scenes must be from 1 to 1000"),
        (["--shapes", "--checkpoint=x"], "--checkpoint names one model more than once"),
    ],
)
def test_wrong_commands_end_in_one_line(tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit) as exit:
        backgrounds.main(["--checkpoint=x", f"--output={tmp_path}/out", *flags])
    error = capsys.readouterr().err
    assert exit.value.code == 1 and error.count("\n") == 1 and message in error
