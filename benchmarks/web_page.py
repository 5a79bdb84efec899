"""How fast the web page is in Chromium on this machine, and how many bytes a first visitor loads.

    python -m deeplens.benchmarks.web_page [--json FILE]

A photo of 1024 px is tapped and dragged over, in the browser and with `deeplens studio` behind it. One of 2048 px is
refocused in full size, beside ONNX Runtime on the same photo. Needs the built page (`make web`), the extras `web` and
`studio`, and Chromium.
"""

import io
import math
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeplens.benchmarks.worker import synthetic_photo
from deeplens.console.errors import MissingError
from deeplens.console.options import JsonTarget
from deeplens.console.report import console_for, table, write_json
from deeplens.console.script import run_script
from deeplens.runtimes import open_runtime
from deeplens.runtimes.disparity import focal_disparity_at
from deeplens.runtimes.harness import Harness, aperture_from_f_number
from deeplens.runtimes.options import Artifacts
from deeplens.runtimes.web import WebRuntime
from deeplens.runtimes.web_browser import Browser
from deeplens.runtimes.web_page import page_folder
from deeplens.runtimes.web_server import PageServer

POINTS = ((0.3, 0.6), (0.7, 0.3), (0.5, 0.8), (0.2, 0.2), (0.8, 0.7))
"""Where is tapped, one after the other."""

DRAG = 2.0
"""Seconds that a finger drags."""

WATCH = """
window.answers = [];
document.addEventListener("deeplens-answer", ({ detail }) =>
  window.answers.push([performance.now(), detail.level, detail.milliseconds, detail.draft]));
"""

OPEN = """([bytes, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type: "image/jpeg" }));
  window.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@dataclass(frozen=True)
class Drag:
    """How a finger that drags is answered.

    Attributes:
        rate: answers a second.
        ways: how many answers each way gave: "base", "base in INT8", "half the base".
    """

    rate: float
    ways: dict[str, int]

    @classmethod
    def of(cls, answers: Sequence[Sequence[float]]) -> "Drag":
        """Of what `WATCH` has noted."""
        names = [
            "half the base" if level < 0 else "base in INT8" if draft else "base" for _, level, _, draft in answers
        ]
        spans = np.diff([answer[0] for answer in answers])
        return cls(1000 / float(np.mean(spans)), dict(Counter(names).most_common()))


class Page:
    """The page with a photo open."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.page = browser.chromium.new_page(viewport={"width": 1280, "height": 900})
        self.page.add_init_script(WATCH)
        self.page.set_default_timeout(300_000)
        start = time.perf_counter()
        self.page.goto(address)
        self.page.wait_for_selector("#loading:has-text('Ready.')")
        self.ready = time.perf_counter() - start

    def open(self, pixels: np.ndarray, name: str) -> None:
        import base64

        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=92)
        self.page.evaluate(OPEN, [base64.b64encode(stream.getvalue()).decode(), name])
        self.page.wait_for_selector(f"#photo[aria-label*='{name}']")
        self.page.wait_for_selector("#status:has-text('Tap')")
        self.page.wait_for_timeout(1000)

    def at(self, x: float, y: float) -> tuple[float, float]:
        box = self.page.locator("#photo").bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def tap(self, x: float, y: float) -> tuple[float, float]:
        """Seconds from a tap to the first answer and to the full picture."""
        where = self.at(x, y)
        self.page.evaluate("window.answers.length = 0; delete document.getElementById('stage').dataset.state")
        self.page.mouse.move(*where)
        self.page.evaluate(
            "addEventListener('pointerup', () => { window.began = performance.now(); }, { once: true, capture: true })"
        )
        self.page.mouse.down()
        self.page.mouse.up()
        self.page.wait_for_selector("#stage[data-state=ready]")
        first, last = self.page.evaluate(
            "[window.answers[0][0] - window.began, window.answers.at(-1)[0] - window.began]"
        )
        return first / 1000, last / 1000

    def drag(self) -> Drag:
        """How a finger that drags is answered."""
        self.page.mouse.move(*self.at(0.2, 0.2))
        self.page.mouse.down()
        self.page.evaluate("window.answers.length = 0")
        start, step = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < DRAG:
            step += 1
            self.page.mouse.move(*self.at(0.2 + 0.3 * passed, 0.2 + 0.2 * passed + 0.001 * (step % 2)))
            self.page.wait_for_timeout(15)
        answers = self.page.evaluate("window.answers")
        self.page.mouse.up()
        self.page.wait_for_selector("#stage[data-state=ready]")
        return Drag.of(answers)


@contextmanager
def studio(artifacts: Path | None) -> Iterator[str]:
    """`deeplens studio` on ONNX Runtime, and its address. MissingError: it does not start."""
    own = [] if artifacts is None else ["--artifacts", str(artifacts)]
    command = [sys.executable, "-m", "deeplens", "studio", "--no-open", "--port", "0", "--runtime", "onnx", *own]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            said = ""
            while running.stdout is not None and (line := running.stdout.readline()):
                said += line
                if (found := re.search(r"http://\S+", line)) is not None:
                    break
            else:
                raise MissingError(f"deeplens studio does not start: {said.strip()}")
            yield found[0]
        finally:
            running.terminate()


def native(pixels: np.ndarray, artifacts: Path | None) -> float:
    """Seconds of one more refocus of a photo on ONNX Runtime, as `deeplens.Refocuser` does it."""
    with open_runtime("onnx", artifacts=artifacts) as runtime:
        harness = Harness(runtime)
        disparity = harness.disparity(pixels)
        photo = harness.photo(pixels, disparity)
        times = []
        for point in POINTS:
            start = time.perf_counter()
            photo.refocus(focal_disparity=focal_disparity_at(disparity, *point), aperture=aperture_from_f_number(2.0))
            times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def draft_decibels(pixels: np.ndarray) -> float | None:
    """The least PSNR of the base in INT8 from that in FP32, both as shown in 8 bits; None: the page has no INT8."""
    found = []
    with WebRuntime() as runtime:
        runtime.call("draft")
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        runtime.put("photo", np.frombuffer(stream.getvalue(), np.uint8))
        shape = runtime.call("open", "photo", "photo.png", "map")["shape"]
        disparity = runtime.take("map", shape)
        for point in POINTS:
            focus = {"disparity": float(focal_disparity_at(disparity, *point)), "range": 0.0}
            answers = []
            for way in ("whole", "draft"):
                told = runtime.call("drag", {"focus": focus, "fNumber": 2.0}, way, "answer")
                answers.append(runtime.take("answer", told["shape"], "u1").astype(float))
                if way == "draft" and not told["draft"]:
                    return None
            found.append(10 * math.log10(255**2 / float(np.mean((answers[0] - answers[1])[..., :3] ** 2))))
    return round(min(found), 1)


def measure(artifacts: Path | None) -> dict[str, Any]:
    """All figures; times are medians over `POINTS` but the first, which warms up."""
    small, large = synthetic_photo(1024, 768), synthetic_photo(2048, 1536)
    with Browser() as browser, PageServer(page_folder(), isolated=False) as server:
        page = Page(browser, server.address)
        loaded = server.sent
        page.open(small, "small.jpg")
        taps = [page.tap(*point) for point in POINTS][1:]
        page.drag()  # the page finds out how fast this device is
        drag = page.drag()
        page.open(large, "large.jpg")
        full = [page.tap(*point)[1] for point in POINTS][1:]
        threads = page.page.evaluate("crossOriginIsolated")
        page.page.close()
        with studio(artifacts) as address:
            machine = Page(browser, address)
            machine.open(small, "small.jpg")
            by_machine = [machine.tap(*point)[0] for point in POINTS][1:]
            machine_drag = machine.drag()
    return {
        "bytes_to_first_photo": loaded,
        "seconds_until_ready": round(page.ready, 3),
        "threads": threads,
        "first_preview_1024_s": round(statistics.median(first for first, _ in taps), 3),
        "full_1024_s": round(statistics.median(last for _, last in taps), 3),
        "drag_answers_per_s": round(drag.rate, 1),
        "drag_answered_by": drag.ways,
        "drag_int8_db": draft_decibels(small),
        "studio_first_preview_1024_s": round(statistics.median(by_machine), 3),
        "studio_drag_answers_per_s": round(machine_drag.rate, 1),
        "full_2048_s": round(statistics.median(full), 3),
        "native_2048_s": round(native(large, artifacts), 3),
    }


def main(artifacts: Artifacts = None, json: JsonTarget = None) -> None:
    """Measure the web page in Chromium."""
    found = measure(artifacts)
    found["full_2048_over_native"] = round(found["full_2048_s"] / found["native_2048_s"], 2)
    console = console_for(json)
    console.print(
        table("The web page in Chromium", ("what", "figure"), [(k.replace("_", " "), str(v)) for k, v in found.items()])
    )
    write_json(json, found)


if __name__ == "__main__":
    run_script(main)
