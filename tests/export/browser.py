"""A headless Chromium that opens the page of an exported detector."""

import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# What the page found, as Python can compare it.
_FOUND = """
async (content) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes]), {colorSpaceConversion: "none"});
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const {data} = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const {found, milliseconds} = await self.detector.detect(
    {data, height: bitmap.height, width: bitmap.width});
  return JSON.stringify({milliseconds, found: found.map(({grid, ...rest}) =>
    ({...rest, grid: Array.from(grid)}))});
}
"""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serves a folder as any static host does; yields its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@contextmanager
def opened(address: str) -> Iterator:
    """Opens the page and waits until it has loaded the model; yields it, with `requests`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 900})
        page.requests = []
        page.on("request", lambda request: page.requests.append((request.method, request.url)))
        page.goto(address)
        # By its text and not by a function: the page forbids what evaluates strings.
        page.locator("#status", has_text=re.compile("Ready|cannot")).wait_for(timeout=180_000)
        yield page
        browser.close()


def found(page, content: str) -> tuple[list[dict], float]:
    """Returns what the page finds in an image file (base64), and the model's milliseconds."""
    told = json.loads(page.evaluate(_FOUND, content))
    return told["found"], told["milliseconds"]
