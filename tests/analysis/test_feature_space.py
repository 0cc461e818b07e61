"""The pictures and the page of a real, if tiny, run."""

import base64
import importlib.util
import itertools
import json
import re

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("sklearn", reason="t-SNE is scikit-learn's")

from clippy_jax.analysis import feature_page, projections  # noqa: E402
from clippy_jax.analysis.feature_space import main  # noqa: E402
from tests.browser import opened  # noqa: E402

WORDS = ["apple", "</script><b>zebra", "grass"]


@pytest.fixture(scope="module")
def folder(demo_folder, tmp_path_factory):
    """Without UMAP, whose compilation takes a minute; it is called as t-SNE is."""
    output = tmp_path_factory.mktemp("features") / "out"
    images = demo_folder / "data" / "shapes" / "voc" / "JPEGImages"
    flags = [f"--checkpoint={demo_folder}/runs/shapes", f"--image={images}", f"--labels={','.join(WORDS)}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projections, "umap", lambda vectors, seed: None)
        main([*flags, "--point=0.1,0.9", f"--output={output}"])
    return output


def test_every_picture_is_there_and_on_the_page(folder):
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "images_and_words_tsne.png",
        "index.html",
        "like_the_chosen_patch.png",
        "patches_and_words_tsne.png",
        "patches_as_colours.png",
    ]
    page = (folder / "index.html").read_text("utf-8")
    assert page.count('<img class="picture"') == 4
    assert not re.search(r"(src|href)=[\"'](?!data:)", page) and "http" not in page  # nothing is loaded


def test_the_page_tells_which_word_a_patch_is_like(folder):
    with opened((folder / "index.html").as_uri()) as page:
        image = page.locator("#images canvas").nth(1)
        image.click(position={"x": 5, "y": 5})
        told = page.locator("#told").text_content()
        assert told.startswith("Row 1, column 1 of image 2: most like “")
        best = page.locator("#words button.best").text_content()
        assert best.rpartition(" ")[0] in WORDS and best.rpartition(" ")[0] in told
        page.locator("#words button").nth(1).click()
        assert "Cosine of every patch with “</script><b>zebra”" in page.locator("#told").text_content()
        shades = page.locator("#images canvas").first.evaluate(
            "canvas => [...canvas.getContext('2d').getImageData(0, 0, 4, 4).data]"
        )
        assert len(set(shades)) > 3


def test_the_pages_vectors_have_nearly_the_same_cosines():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(30, 200))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    image = PIL.Image.new("RGB", (8, 8))
    page = feature_page.page("x", [image, image], [vectors[:12].reshape(3, 4, -1), vectors[12:24].reshape(4, 3, -1)],
                             ["a"] * 6, vectors[24:], {})  # fmt: skip
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    shown = np.frombuffer(base64.b64decode(data["vectors"]), np.int8).reshape(30, -1) * data["scale"]
    np.testing.assert_allclose(shown @ shown.T, vectors @ vectors.T, atol=0.02)


def test_like_patches_have_like_colours_in_all_images():
    random = np.random.default_rng(0)
    kinds = random.normal(size=(4, 16))
    grids = [kinds[labels] + 0.01 * random.normal(size=(6, 6, 16)) for labels in random.integers(0, 4, (2, 6, 6))]
    labels = [np.linalg.norm(grid[..., None, :] - kinds, axis=-1).argmin(axis=-1) for grid in grids]
    colours = projections.principal_colours(grids)
    means = [[colour[label == kind].mean(axis=0) for kind in range(4)] for colour, label in zip(colours, labels)]
    np.testing.assert_allclose(means[0], means[1], atol=0.1)
    assert min(np.linalg.norm(means[0][a] - means[0][b]) for a, b in itertools.combinations(range(4), 2)) > 0.3


def test_words_lie_among_what_they_name_once_the_gap_is_taken_away():
    random = np.random.default_rng(0)
    kinds, gap = random.normal(size=(4, 32)), 10 * random.normal(size=(2, 32))
    images = np.repeat(kinds, 20, axis=0) + 0.1 * random.normal(size=(80, 32)) + gap[0]
    images, texts = projections.without_gap(images, kinds + gap[1])
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-6)
    places = projections.tsne(np.concatenate([images, texts]).astype(np.float32), seed=0)
    distances = np.linalg.norm(places[80:, None] - places[None, :80], axis=-1)
    assert (distances.reshape(4, 4, 20).mean(axis=-1).argmin(axis=1) == range(4)).all()


@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="umap-learn is not installed")
def test_umap_is_a_map_as_well():
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    assert projections.umap(vectors, seed=0).shape == (20, 2)


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "the following arguments are required: --checkpoint, --image, --labels, --output"),
        (["--labels=a"], "--labels needs 2 to 255 words"),
        (["--point=1"], "--point=1 must be two shares"),
        (["--point=0.5,2"], "--point=0.5,2 must be two shares"),
        (["--image=nowhere.png"], "nowhere.png cannot be read as an image: it does not exist"),
        (["--resolution=0"], "--resolution=0 must be"),
        (["--output=FILE"], "must be a folder"),
        (["--checkpoint=nowhere"], "nowhere"),
    ],
)
def test_wrong_commands_end_in_one_line(tmp_path, capsys, flags, message):
    (tmp_path / "file").touch()
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    given = {"checkpoint": "x", "image": f"{tmp_path}/image.png", "labels": "a,b", "output": f"{tmp_path}/out"}
    for flag in flags:
        name, _, value = flag.removeprefix("--").partition("=")
        given[name] = value.replace("FILE", f"{tmp_path}/file")
    with pytest.raises(SystemExit) as exit:
        main([f"--{name}={value}" for name, value in given.items()] if flags else [])
    error = capsys.readouterr().err
    assert exit.value.code == 1 and error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()
