"""The page in a real browser: what a visitor does, and what they see."""

import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

import numpy as np
import PIL.Image
import pytest

if importlib.util.find_spec("gradio") is None:  # its import takes a second, and this process does without
    pytest.skip('the page needs Gradio: pip install "gradio>=6.31,<7"', allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by: pip install playwright")

from tests.browser import DESKTOP, PHONE, SLOWEST_SECONDS, chromium  # noqa: E402

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The program with two checkpoints on a free port, on a machine without internet; at the end, told to end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("demo")
    command = ["-m", "tests.demo.serve_colours", "--checkpoint=runs/a", "--second_checkpoint=runs/b", f"--port={port}"]
    proxy = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}  # one that nobody reaches
    environment = os.environ | proxy | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    printed = [process.stdout.readline() for _ in range(3)]
    assert printed[:2] == ["runs/a: a model that knows colours\n", "runs/b: a model that knows colours\n"]
    assert f"http://127.0.0.1:{port}" in printed[2]
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    assert process.wait(SLOWEST_SECONDS) == 0
    assert not list(folder.iterdir())  # no upload outlives the program


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


class Visitor:
    """A page in the browser, and what one does there."""

    def __init__(self, browser, url, **options):
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(1000 * SLOWEST_SECONDS)
        self.hosts = set()
        self.page.on("request", lambda request: self.hosts.add(urllib.parse.urlparse(request.url).netloc))
        self.page.goto(url)
        self.sees("#legend", "zebra")

    def sees(self, element, *texts):
        """Waits until all of the texts stand in an element."""
        for text in texts:
            playwright.expect(self.page.locator(element)).to_contain_text(text)

    def sees_first(self, element, text):
        """Waits until a text stands in the first row of an element's table."""
        row = self.page.locator(f"{element} tbody tr").first
        playwright.expect(row).to_contain_text(text)

    def upload(self, path):
        self.page.locator("#image button[aria-label='Remove Image']").click()
        self.page.locator("#image input[type=file]").set_input_files(path)

    def write(self, words):
        self.page.locator("#words textarea").fill(words)
        self.page.locator("#words textarea").press("Enter")

    def select(self, tab):
        self.page.get_by_role("tab", name=tab).click()

    def click_at(self, x, y):
        """Clicks a point of the segments, given as shares of their width and height."""
        image = self.page.locator("#segments img")
        # The page may be putting another image in this one's place, so that this one is never there.
        self.page.wait_for_function("() => document.querySelector('#segments img')?.naturalWidth > 0")
        image.scroll_into_view_if_needed()
        box = image.bounding_box()
        # The image lies in the middle of its element, as large as fits.
        width, height = image.evaluate("image => [image.naturalWidth, image.naturalHeight]")
        scale = min(box["width"] / width, box["height"] / height)
        left, top = (box[corner] + box[side] / 2 for corner, side in (("x", "width"), ("y", "height")))
        self.page.mouse.click(left + (x - 0.5) * width * scale, top + (y - 0.5) * height * scale)

    def download(self, name):
        with self.page.expect_download() as started:
            self.page.locator(f"#download-{name}").click()
        return started.value


@pytest.fixture
def visitor(server, browser):
    visitor = Visitor(browser, server, viewport=DESKTOP)
    yield visitor
    visitor.page.close()


@pytest.fixture(scope="module")
def image_file(red_and_lime, tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "flag.png"
    red_and_lime.save(path)
    return path


def test_a_visit(visitor, image_file):
    """Upload, type, click a patch, look into every tab, carry the files away; nothing comes from anywhere else."""
    visitor.write("red, cyan")
    visitor.upload(image_file)
    visitor.sees_first("#legend", "cyan")
    visitor.write("lime, red, blue")
    visitor.sees_first("#legend", "lime")
    visitor.sees("#legend", "75.0 %", "25.0 %", "not found", "96 x 32 pixels, in 12 x 4 patches")

    visitor.click_at(0.1, 0.5)
    visitor.sees_first("#patch-names", "red")
    visitor.sees("#patch-names", "to 1.00 (bright)")
    playwright.expect(visitor.page.locator("#heat-map img")).to_be_visible()
    visitor.click_at(0.9, 0.9)
    visitor.sees_first("#patch-names", "lime")

    mask = visitor.download("mask")
    assert mask.suggested_filename == "flag_mask.png"
    labels = np.asarray(PIL.Image.open(mask.path()))
    assert labels.shape == (32, 96) and labels[0, 0] == 1 and labels[-1, -1] == 0
    words = json.loads(pathlib.Path(visitor.download("json").path()).read_text())["words"]
    assert [word["word"] for word in words] == ["lime", "red", "blue"] and words[0]["share"] == 0.75
    assert PIL.Image.open(visitor.download("overlay").path()).size == (896, 299)

    visitor.select("Classification")
    visitor.sees_first("#probabilities", "lime")
    visitor.select("Groups without words")
    visitor.sees("#group-legend", "group 1", "group 2", "mostly")
    visitor.select("Two checkpoints")
    for side in ("0", "1"):
        visitor.sees_first(f"#compared-legend-{side}", "lime")
    assert visitor.hosts == {urllib.parse.urlparse(visitor.page.url).netloc}


def test_an_example_brings_its_words_and_settings_change_what_is_seen(visitor):
    visitor.page.locator("#examples .gallery-item").nth(1).click()
    visitor.sees("#legend", "football", "32 x 32 pixels")
    visitor.page.locator("#resolution input[type=number]").fill("2")
    visitor.page.locator("#resolution input[type=number]").press("Enter")
    visitor.sees("#legend", "64 x 64 pixels, in 8 x 8 patches")


def test_what_is_wrong_stands_where_the_visitor_looks(visitor, image_file, tmp_path):
    visitor.write("")
    visitor.sees("#problem", "No words yet")
    visitor.write(", ".join(map(str, range(500))))
    visitor.sees("#problem", "500 words are too many: type at most 50")
    assert visitor.page.locator("#legend table").count() == 0
    visitor.write("red, lime")
    playwright.expect(visitor.page.locator("#problem")).to_be_hidden()

    (tmp_path / "text.png").write_text("no image")
    visitor.upload(tmp_path / "text.png")
    visitor.sees("#problem", "text.png cannot be read as an image")
    (tmp_path / "text.txt").write_text("no image")
    visitor.upload(tmp_path / "text.txt")
    visitor.sees("body", "Invalid file type: text.txt")  # the browser's side refuses it
    visitor.page.locator("#image input[type=file]").set_input_files(image_file)
    visitor.sees("#legend", "75.0 %")


def test_words_are_shown_as_they_were_typed(visitor):
    visitor.write("<b>bold</b>, ${1 + 1}, {{2 * 2}}, <img src=x onerror=alert(1)>")
    visitor.sees("#legend", "<b>bold</b>", "${1 + 1}", "{{2 * 2}}", "<img src=x onerror=alert(1)>")


def test_a_phone_shows_all_without_scrolling_sideways(server, browser):
    visitor = Visitor(browser, server, viewport=PHONE, has_touch=True, is_mobile=True)
    visitor.click_at(0.5, 0.5)
    visitor.sees("#patch-names", "would be called")
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    settings, legend = (visitor.page.locator(element).bounding_box() for element in ("#opacity", "#legend"))
    assert legend["y"] < settings["y"]
    visitor.page.close()


def test_with_one_checkpoint_the_page_says_how_to_compare_two(embedder, image_file):
    from clippy_jax.demo import page
    from clippy_jax.demo.examples import Example

    blocks = page.build([embedder], [Example(str(image_file), "red, lime")])
    values = [component["props"].get("value") for component in blocks.get_config_file()["components"]]
    assert any("--second_checkpoint=" in value for value in values if isinstance(value, str))


def test_files_that_are_no_uploads_stay_closed(server, image_file):
    """A request that was not made by the page cannot read an image of the machine."""
    import httpx

    fields = [0, {"path": str(image_file), "meta": {"_type": "gradio.FileData"}}, "red, lime", 1, 0.5, 5, None]
    function = next(
        index
        for index, dependency in enumerate(httpx.get(f"{server}/config").json()["dependencies"])
        if len(dependency["inputs"]) == len(fields)
    )
    session = f"session-{time.monotonic_ns()}"
    request = {"data": fields, "fn_index": function, "session_hash": session}
    httpx.post(f"{server}/gradio_api/queue/join", json=request).raise_for_status()
    with httpx.stream("GET", f"{server}/gradio_api/queue/data?session_hash={session}", timeout=60) as answer:
        end = next(line for line in answer.iter_lines() if '"process_completed"' in line)
    assert json.loads(end.removeprefix("data: "))["success"] is False
    assert httpx.get(f"{server}/gradio_api/file={image_file}").status_code == 403
