"""Chromium with the built page, as a person on a static host has it; skipped, with the reason, where one is missing."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplens.console.errors import MissingError
from deeplens.model.contract import NETWORKS
from deeplens.runtimes.web import WebRuntime
from deeplens.runtimes.web_browser import Browser, chromium_path
from deeplens.runtimes.web_page import MODELS, page_folder
from deeplens.runtimes.web_server import PageServer
from tests.conftest import ROOT

ANSWERS = """
window.answers = [];
document.addEventListener("deeplens-answer", ({ detail: { level, covered, picture } }) => {
  window.answers.push({ level, covered, size: [picture.width, picture.height] });
  window.newest = picture;
});
"""


def photo() -> np.ndarray:
    """Two steps, padded in both axes: 451×300×3."""
    whole = Image.open(ROOT / "samples" / "drum.jpg").crop((0, 500, 1366, 1409))
    return np.asarray(whole.resize((660, 439), Image.Resampling.LANCZOS))


def encoded(pixels: np.ndarray, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


@dataclass
class Visitor:
    """A person with the page open, at 1000×700 unless told otherwise.

    Attributes:
        page: Playwright's.
        problems: what the page's console said of errors.
    """

    page: Any
    address: str
    problems: list[str] = field(default_factory=list)

    def drop(self, data: bytes, name: str, kind: str = "") -> None:
        """Drop a file onto the page."""
        self.page.evaluate(
            """([bytes, name, type]) => {
                const data = new DataTransfer();
                data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type }));
                for (const event of ["dragover", "drop"])
                    window.dispatchEvent(new DragEvent(event, { dataTransfer: data, bubbles: true, cancelable: true }));
            }""",
            [base64.b64encode(data).decode(), name, kind],
        )

    def open(self, data: bytes, name: str, kind: str = "") -> None:
        """Drop a photo and wait until it can be focused."""
        self.drop(data, name, kind)
        label = f"#photo[aria-label*='{name}']"
        self.page.wait_for_selector(label, timeout=90_000)
        self.page.wait_for_function("document.getElementById('status').textContent.startsWith('Tap')", timeout=90_000)
        self.page.wait_for_timeout(300)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the photo is on the screen."""
        box = self.page.locator("#photo").bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def forget(self) -> None:
        """Forget the answers so far, and that the last one is ready."""
        self.page.evaluate("window.answers.length = 0; delete document.getElementById('stage').dataset.state")

    def tap(self, x: float, y: float) -> list[dict[str, Any]]:
        """Tap a point of the photo; returns the answers up to the full picture."""
        self.forget()
        self.page.mouse.click(*self.at(x, y))
        return self.answers()

    def answers(self) -> list[dict[str, Any]]:
        """All answers, as soon as the full picture is there."""
        self.page.wait_for_selector("#stage[data-state=ready]", timeout=90_000)
        return list(self.page.evaluate("window.answers"))

    def picture(self) -> np.ndarray:
        """The pixels of the newest answer, H×W×3, uint8."""
        script = """() => {
            const { width, height } = window.newest;
            const context = new OffscreenCanvas(width, height).getContext("2d");
            context.drawImage(window.newest, 0, 0);
            const { data } = context.getImageData(0, 0, width, height);
            const text = [];
            for (let at = 0; at < data.length; at += 8192)
                text.push(String.fromCharCode(...data.subarray(at, at + 8192)));
            return [height, width, btoa(text.join(""))];
        }"""
        height, width, data = self.page.evaluate(script)
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[:, :, :3]

    def download(self, selector: str, folder: Path) -> Path:
        """Press a button that saves a file."""
        with self.page.expect_download(timeout=90_000) as waiting:
            self.page.click(selector)
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    def choose(self, group: str, value: str) -> None:
        """Choose one of several, such as what is shown."""
        self.page.check(f"[name={group}][value={value}]", force=True)

    def seen(self, x: float, y: float) -> list[int]:
        """The colour of a point of the photo on the screen's canvas."""
        script = """([x, y]) => {
            const canvas = document.getElementById("photo");
            const at = [Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1];
            return [...canvas.getContext("2d").getImageData(...at).data.slice(0, 3)];
        }"""
        return list(self.page.evaluate(script, [x, y]))


@pytest.fixture(scope="session")
def built() -> Path:
    """The folder of the built page."""
    pytest.importorskip("playwright", reason="Playwright is not installed")
    try:
        chromium_path()
        return page_folder()
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def shipped(built: Path) -> Path:
    """The built page, where it carries the weights of this checkout."""
    about = json.loads((built / MODELS / "models.json").read_text(encoding="utf-8"))
    build = pytest.importorskip("deeplens.model.build", reason="PyTorch is not installed")
    for network in NETWORKS:
        own = build.weights_sha256(build.load(about["variant"], network))
        if own != about["networks"][network]["weights_sha256"]:
            pytest.skip("the built page carries other weights than this checkout: make web")
    return built


@pytest.fixture(scope="session")
def browser(built: Path) -> Iterator[Browser]:
    assert built.is_dir()  # else all is skipped
    with Browser() as running:
        yield running


@pytest.fixture(scope="session")
def server(built: Path) -> Iterator[PageServer]:
    """As a static host is: it sends no headers of its own."""
    with PageServer(built, isolated=False) as running:
        yield running


def visit(browser: Browser, server: PageServer, **options: Any) -> Visitor:
    """A new person comes to the page for the first time."""
    context = browser.chromium.new_context(**{"viewport": {"width": 1000, "height": 700}, **options})
    page = context.new_page()
    visitor = Visitor(page, server.address)
    page.on("pageerror", lambda error: visitor.problems.append(str(error)))
    page.add_init_script(ANSWERS)
    page.goto(server.address)
    page.wait_for_function(
        "crossOriginIsolated && document.getElementById('loading').textContent === 'Ready.'", timeout=90_000
    )
    return visitor


@pytest.fixture(scope="session")
def visitor(browser: Browser, server: PageServer) -> Visitor:
    return visit(browser, server)


@contextmanager
def studio(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`deeplens studio` on PyTorch, which needs no artefacts, and the address that it prints."""
    pytest.importorskip("starlette", reason="the extra studio is not installed")
    command = [sys.executable, "-m", "deeplens", "studio", *map(str, arguments)]
    command += ["--no-open", "--port", "0", "--runtime", "torch"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    try:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            lines.append(line)
            found = re.search(r"http://\S+", line)
            if found:
                yield running, found[0]
                break
        else:
            pytest.fail("".join(lines))
    finally:
        running.kill()
        running.wait()


def at_studio(browser: Browser, address: str) -> Visitor:
    """A person opens the page of `deeplens studio`."""
    page = browser.chromium.new_context(viewport={"width": 1000, "height": 700}).new_page()
    visitor = Visitor(page, address)
    page.add_init_script(ANSWERS)
    page.goto(address)
    page.wait_for_selector("#loading:has-text('Ready.')", timeout=60_000)
    assert page.input_value("#engine") == "machine:torch"
    return visitor


@pytest.fixture(scope="session")
def page(built: Path) -> Iterator[WebRuntime]:
    """The page's own code, driven without anybody who looks at it."""
    assert built.is_dir()
    with WebRuntime() as running:
        yield running


class Opened:
    """A file as the driven page has it.

    Attributes:
        shown: its pixels in sRGB, H×W×3, uint8.
        map: its disparity: the one in the file, where that can be used.
        embedded: whether it can.
    """

    def __init__(self, page: WebRuntime, data: bytes, name: str) -> None:
        self._page = page
        given = page.put("file", np.frombuffer(data, np.uint8))
        found = page.call("open", given["file"], name, "map", "shown")
        self.size = tuple(found["size"])
        self.embedded: bool = found["embedded"]
        self.notes: list[str] = found["notes"]
        self.map = page.take("map", found["shape"])
        self.shown = page.take("shown", [*found["size"], 4], "u1")[:, :, :3]

    def saved(self, *, f_number: float = 4, disparity: float = 0.5) -> Image.Image:
        """What is saved; at the usual aperture hardly anything changes."""
        focus = {"disparity": disparity, "range": 0}
        self._page.call("save", {"focus": focus, "fNumber": f_number}, "saved")
        return Image.open(io.BytesIO(self._page.taken("saved")))
