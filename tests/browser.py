"""A headless Chromium, driven by Playwright, and folders that a local server serves it."""

import contextlib
import functools
import http.server
import pathlib
import shutil
import threading
from collections.abc import Iterator

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SLOWEST_SECONDS = 30  # for a machine with much else to do
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@contextlib.contextmanager
def chromium() -> Iterator:
    """A browser; skips the test where Chromium or Playwright is missing.

    While it is there, an event loop of asyncio runs in this thread: do what needs one of its own before.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    playwright.expect.set_options(timeout=1000 * SLOWEST_SECONDS)
    with playwright.sync_playwright() as driver:
        with driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS)) as browser:
            yield browser


@contextlib.contextmanager
def opened(url: str, **options) -> Iterator:
    """A page of a browser of its own; at its end, the console must have had no error."""
    with chromium() as browser:
        page = browser.new_page(viewport=DESKTOP, **options)
        page.set_default_timeout(1000 * SLOWEST_SECONDS)
        errors = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        yield page
        assert not errors


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder: pathlib.Path) -> Iterator[str]:
    """The address of a folder."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
