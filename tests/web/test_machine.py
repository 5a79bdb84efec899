"""The page with `deeplens studio` behind it: "this machine" as an engine, the browser beside it, and a dead server."""

import signal
from pathlib import Path

import pytest
from PIL import Image

from deeplens.runtimes.web_browser import Browser
from tests.support.device import needs_torch
from tests.web.conftest import at_studio, encoded, photo, studio

pytestmark = [pytest.mark.slow, needs_torch]

POINT = (0.35, 0.45)


@pytest.mark.usefixtures("built")
def test_this_machine_then_this_browser_then_nobody(browser: Browser, tmp_path: Path) -> None:
    with studio() as (running, address):
        visitor = at_studio(browser, address)
        page = visitor.page

        visitor.drop(encoded(photo(), "PNG"), "drum.png", "image/png")
        page.wait_for_selector("#status:has-text('Tap')", timeout=60_000)
        page.wait_for_timeout(500)
        levels = [each["level"] for each in visitor.tap(*POINT)]
        assert levels[0] == 0
        assert levels[-1] == 2

        saved = Image.open(visitor.download("#save", tmp_path))
        assert (saved.size, saved.format) == ((photo().shape[1], photo().shape[0]), "PNG")

        visitor.drop(b"not a photo", "notes.txt")
        page.locator("#error[role=alert]").wait_for(state="visible", timeout=30_000)
        page.click("#error button")
        assert visitor.tap(0.9, 0.1)[-1]["level"] == 2, "the photo before is still open"
        visitor.tap(*POINT)

        visitor.forget()  # the browser takes the photo and its focus over
        page.select_option("#engine", "wasm")
        assert visitor.answers()[-1]["level"] == 2

        running.send_signal(signal.SIGTERM)
        running.wait(timeout=30)
        assert visitor.tap(0.9, 0.1)[-1]["level"] == 2, "the browser needs no server"
        page.select_option("#engine", "machine:torch")
        error = page.locator("#error[role=alert]")
        error.wait_for(state="visible", timeout=30_000)
        assert "The machine does not answer any more" in error.inner_text()
        assert page.input_value("#engine") == "wasm", "who computes is still the browser"
        page.context.close()
