"""The page that `export web` writes, in Chromium, beside `Model.segment`."""

import io
import json
import tarfile

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

from clippy_jax.errors import InputError  # noqa: E402
from clippy_jax.export.__main__ import main  # noqa: E402
from clippy_jax.export.onnxruntime_web import FILES, read_runtime  # noqa: E402
from clippy_jax.export.web import read_words  # noqa: E402
from tests.export.browser import browser, served, wait_for  # noqa: E402
from tests.inputs import make_photo  # noqa: E402

WORDS = [f"{size} {thing}" for size in ("small", "big") for thing in ("zebra", "apple", "lemon", "star", "dog", "cat")]
WORDS += ["water", "grass", "background"]
CHOSEN = ["water", "small star", "big cat", "background"]


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    """The page; the test skips where npm cannot get the runtime."""
    try:
        runtime = read_runtime(None)
    except InputError as error:
        pytest.skip(str(error))
    package = tmp_path_factory.mktemp("web") / "onnxruntime-web"
    (package / "dist").mkdir(parents=True)
    for name in FILES:
        (package / name).write_bytes(runtime[name.partition("/")[2]])
    words, output = package.with_name("words.txt"), package.with_name("page")
    words.write_text("\n".join(WORDS) + "\n\n")
    flags = [f"--checkpoint={checkpoint}", f"--output={output}", f"--words={words}", f"--runtime={package}"]
    main(["web", *flags])
    return output


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """An image larger than the model is fed, a panorama, and a JPEG that its camera noted as lying on its side."""
    folder = tmp_path_factory.mktemp("photos")
    make_photo(1, 300, 190).save(folder / "large.png")
    make_photo(2, 400, 50).save(folder / "panorama.png")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    make_photo(3, 320, 240).save(folder / "turned.jpg", quality=92, exif=exif)
    (folder / "text.png").write_text("no image")
    return folder


def test_the_page_segments_as_python_does(folder, photos, model, tmp_path):
    with served(folder) as address, browser(tmp_path) as driver:

        def get(name):
            return driver.find_element("id", name)

        def texts(selector):
            script = "return [...document.querySelectorAll(arguments[0])].map((element) => element.textContent)"
            return driver.execute_script(script, selector)

        def names():
            return texts("#chosen li span:nth-child(2)")

        def open_file(name):
            get("file").send_keys(str(photos / name))

        driver.get(address)
        wait_for(lambda: get("status").text == "Ready.", "the model is loaded")
        open_file("large.png")
        wait_for(lambda: "large.png, 300 × 190" in get("status").text, "the image is segmented")
        suggested = names()
        assert suggested, "words are suggested for the image"
        for left in range(len(suggested) - 1, -1, -1):
            driver.execute_script("document.querySelector('.remove').click()")
            assert len(names()) == left
        for word in CHOSEN:
            get("word").send_keys(word.upper() + "\n")
        wait_for(lambda: names() == CHOSEN, "the words are added")
        get("word").send_keys("elephant\n")
        assert "“elephant” is not among the 15 words" in get("hint").text

        for name in ("large.png", "panorama.png", "turned.jpg"):
            open_file(name)
            wait_for(lambda: name in get("status").text and "Click a patch" in get("status").text, name)  # noqa: B023
            get("save-labels").click()
            saved = tmp_path / f"{name[:-4]}_labels.png"
            wait_for(saved.exists, f"{saved.name} is saved")
            labels = np.asarray(PIL.Image.open(saved))[..., 0]
            photo = PIL.ImageOps.exif_transpose(PIL.Image.open(photos / name))
            expected = model.segment(photo, CHOSEN)
            assert labels.shape == expected.shape and len(np.unique(expected)) > 1
            assert (labels == expected).mean() >= 0.999, f"{name}: {(labels != expected).sum()} pixels differ"

        get("save-json").click()
        saved = tmp_path / "turned_segments.json"
        wait_for(saved.exists, "the JSON is saved")
        told = json.loads(saved.read_text())
        assert (told["width"], told["height"]) == (240, 320)
        assert [entry["word"] for entry in told["words"]] == CHOSEN
        shares = [entry["share"] for entry in told["words"]]
        np.testing.assert_allclose(shares, np.bincount(labels.ravel(), minlength=4) / labels.size)

        # A click in the middle: the words that name this patch best.
        get("stage").click()
        wait_for(lambda: get("patch").is_displayed(), "the patch is shown")
        patches, _ = model.encode_image(_fed(photo, model))
        rows, columns = patches.shape[1:3]
        similarity = model.encode_text([f"a photo of a {word}" for word in WORDS]) @ patches[0, rows // 2, columns // 2]
        expected = [WORDS[i] for i in np.argsort(-similarity)[:3]]
        assert texts("#names li span:first-child")[:3] == expected

        open_file("text.png")
        wait_for(lambda: get("error").is_displayed(), "an error is shown")
        assert get("error").text == "text.png is not an image that this browser can read"
        driver.set_window_size(390, 844)
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert not [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]


def _fed(photo, model):
    from clippy_jax.input_pipeline import evaluation_image

    return evaluation_image.whole_image(photo, model.image_size, model.config.image.patch_size)[None]


def test_opened_as_a_file_the_page_says_what_to_do(folder, tmp_path):
    with browser(tmp_path) as driver:
        driver.get((folder / "index.html").as_uri())
        assert "python -m http.server" in driver.find_element("id", "status").text


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "has 0 words; write 2 to"),
        (b"\n  \ncat\n", "has 1 words; write 2 to"),
        (b"cat\ndog\n cat", "has 'cat' more than once"),
        (b"\xff\xfe\x00", "is not a text file in UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_wrong_words_end_in_one_line(tmp_path, content, message):
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_words(str(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_words_are_read_line_by_line(tmp_path):
    (tmp_path / "words.txt").write_text("\ufeffcat\r\n\r\n  polar   bear \r\nÉcole", "utf-8")
    assert read_words(str(tmp_path / "words.txt")) == ["cat", "polar bear", "École"]


def test_the_runtime_is_read_from_an_archive(tmp_path):
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name in (*FILES, "../outside"):
            member = tarfile.TarInfo(f"package/{name}")
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    assert read_runtime(str(path)) == {name.partition("/")[2]: b"abc" for name in FILES}
    assert list(tmp_path.iterdir()) == [path]


def test_a_wrong_runtime_ends_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "broken.tgz").write_bytes(b"no archive")
    with tarfile.open(tmp_path / "other.tgz", "w:gz"):
        pass
    for name in ("nowhere.tgz", "broken.tgz", "other.tgz", "."):
        with pytest.raises(InputError, match="--runtime=.*onnxruntime-web") as error:
            read_runtime(str(tmp_path / name))
        assert "\n" not in str(error.value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="finds no npm"):
        read_runtime(None)
    (tmp_path / "npm").write_text("#!/bin/sh\necho 'npm error network' >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(InputError, match=r"npm cannot get .*\(npm error network\)"):
        read_runtime(None)
