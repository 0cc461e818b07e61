"""The page that `export web` writes, in Chromium, beside `Model.segment`."""

import importlib
import io
import json
import pathlib
import re
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
from tests.browser import PHONE, chromium, opened, served  # noqa: E402
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
    """A large image, a panorama, one that is transparent, and a JPEG that its camera noted as lying on its side."""
    folder = tmp_path_factory.mktemp("photos")
    make_photo(1, 300, 190).save(folder / "large.png")
    make_photo(2, 400, 50).save(folder / "panorama.png")
    clear = make_photo(4, 120, 90).convert("RGBA")
    clear.putalpha(PIL.Image.linear_gradient("L").resize(clear.size))
    clear.save(folder / "clear.png")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    make_photo(3, 320, 240).save(folder / "turned.jpg", quality=92, exif=exif)
    (folder / "text.png").write_text("no image")
    return folder


def test_the_page_segments_as_python_does(folder, photos, model):
    photo = PIL.ImageOps.exif_transpose(PIL.Image.open(photos / "turned.jpg"))
    patches, _ = model.encode_image(_fed(photo, model))
    expected = {name: model.segment(photos / name, CHOSEN) for name in ("large.png", "panorama.png", "turned.jpg")}
    expected["clear.png"] = model.segment(photos / "clear.png", CHOSEN)
    vectors = model.encode_text([f"a photo of a {word}" for word in WORDS])
    with served(folder) as address, opened(address) as page:
        expect = importlib.import_module("playwright.sync_api").expect
        status, word, chosen = (page.locator(place) for place in ("#status", "#word", "#chosen li span:nth-child(2)"))

        def open_file(name):
            page.locator("#file").set_input_files(photos / name)

        def download(button):
            with page.expect_download() as started:
                page.locator(button).click()
            return started.value

        expect(status).to_have_text("Ready.")
        open_file("large.png")
        expect(status).to_contain_text("large.png, 300 × 190")
        assert chosen.count(), "words are suggested for the image"
        for left in range(chosen.count() - 1, -1, -1):
            page.locator(".remove").first.click()
            expect(chosen).to_have_count(left)
        for name in CHOSEN:
            word.fill(name.upper())
            word.press("Enter")
        expect(chosen).to_have_text(CHOSEN)
        word.fill("elephant")
        word.press("Enter")
        expect(page.locator("#hint")).to_contain_text("“elephant” is not among the 15 words")

        for name, labels in expected.items():
            open_file(name)
            expect(status).to_have_text(re.compile(f"{name}.*Click a patch"))
            saved = download("#save-labels")
            assert saved.suggested_filename == f"{name[:-4]}_labels.png"
            found = np.asarray(PIL.Image.open(saved.path()))[..., 0]
            assert found.shape == labels.shape and len(np.unique(labels)) > 1
            assert (found == labels).mean() >= 0.999, f"{name}: {(found != labels).sum()} pixels differ"

        open_file("turned.jpg")
        expect(status).to_have_text(re.compile("turned.jpg.*Click a patch"))  # not: Looking at turned.jpg…
        told = json.loads(pathlib.Path(download("#save-json").path()).read_text())
        assert (told["width"], told["height"]) == (240, 320)
        assert [entry["word"] for entry in told["words"]] == CHOSEN
        shares, labels = [entry["share"] for entry in told["words"]], expected["turned.jpg"]
        np.testing.assert_allclose(shares, np.bincount(labels.ravel(), minlength=4) / labels.size, atol=1e-3)

        # A click in the middle: the words that name this patch best.
        page.locator("#stage").click()
        expect(page.locator("#patch")).to_be_visible()
        rows, columns = patches.shape[1:3]
        similarity = vectors @ patches[0, rows // 2, columns // 2]
        names = page.locator("#names li span:first-child").all_text_contents()
        assert names[:3] == [WORDS[i] for i in np.argsort(-similarity)[:3]]

        open_file("text.png")
        expect(page.locator("#error")).to_have_text("text.png is not an image that this browser can read")
        page.set_viewport_size(PHONE)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def _fed(photo, model):
    from clippy_jax.input_pipeline import evaluation_image

    return evaluation_image.whole_image(photo, model.image_size, model.config.image.patch_size)[None]


def test_opened_as_a_file_the_page_says_what_to_do(folder):
    with chromium() as browser:
        page = browser.new_page()
        page.goto((folder / "index.html").as_uri())
        assert "python -m http.server" in page.locator("#status").text_content()


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
        with pytest.raises(InputError, match="(is not the npm package|see npm pack) onnxruntime-web") as error:
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
