"""How fast the web page is in Chromium on this machine, and how many bytes a first visitor loads.

    python -m deeplens.benchmarks.web_page [--json FILE]

A photo of 1024 px is tapped and dragged over, in the browser and with `deeplens studio` behind it. One of 2048 px is
refocused in full size, beside ONNX Runtime on the same photo. Needs the built page (`make web`), the extras `web` and
`studio`, and Chromium.
"""

import io
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
  window.answers.push([performance.now(), detail.level, detail.milliseconds]));
"""

OPEN = """([bytes, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type: "image/jpeg" }));
  window.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


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

    def drag(self) -> tuple[float, list[int]]:
        """Answers a second while a finger drags, and the levels that answered."""
        self.page.mouse.move(*self.at(0.2, 0.2))
        self.page.mouse.down()
        self.page.evaluate("window.answers.length = 0")
        start, step = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < DRAG:
            step += 1
            self.page.mouse.move(*self.at(0.2 + 0.3 * passed, 0.2 + 0.2 * passed + 0.001 * (step % 2)))
            self.page.wait_for_timeout(15)
        times = self.page.evaluate("window.answers.map(([time, level]) => [time, level])")
        self.page.mouse.up()
        self.page.wait_for_selector("#stage[data-state=ready]")
        spans = np.diff([time for time, _ in times])
        return 1000 / float(np.mean(spans)), sorted({int(level) for _, level in times})


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


def measure(artifacts: Path | None) -> dict[str, Any]:
    """All figures; times are medians over `POINTS` but the first, which warms up."""
    small, large = synthetic_photo(1024, 768), synthetic_photo(2048, 1536)
    with Browser() as browser, PageServer(page_folder(), isolated=False) as server:
        page = Page(browser, server.address)
        loaded = server.sent
        page.open(small, "small.jpg")
        taps = [page.tap(*point) for point in POINTS][1:]
        rate, levels = page.drag()
        page.open(large, "large.jpg")
        full = [page.tap(*point)[1] for point in POINTS][1:]
        threads = page.page.evaluate("crossOriginIsolated")
        page.page.close()
        with studio(artifacts) as address:
            machine = Page(browser, address)
            machine.open(small, "small.jpg")
            by_machine = [machine.tap(*point)[0] for point in POINTS][1:]
            machine_rate, _ = machine.drag()
    return {
        "bytes_to_first_photo": loaded,
        "seconds_until_ready": round(page.ready, 3),
        "threads": threads,
        "first_preview_1024_s": round(statistics.median(first for first, _ in taps), 3),
        "full_1024_s": round(statistics.median(last for _, last in taps), 3),
        "drag_answers_per_s": round(rate, 1),
        "drag_levels": levels,
        "studio_first_preview_1024_s": round(statistics.median(by_machine), 3),
        "studio_drag_answers_per_s": round(machine_rate, 1),
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
