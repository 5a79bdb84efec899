"""The page with `deeplens studio` behind it: "this machine" as an engine, the browser beside it, and a dead server."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from deeplens.runtimes.web_browser import Browser
from tests.support.device import needs_torch
from tests.web.conftest import ANSWERS, Visitor, encoded, photo

pytestmark = [pytest.mark.slow, needs_torch]

POINT = (0.35, 0.45)


@pytest.fixture
def studio(built: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`deeplens studio` on PyTorch, which needs no artefacts, and its address."""
    assert built.is_dir()
    pytest.importorskip("starlette", reason="the extra studio is not installed")
    command = [sys.executable, "-m", "deeplens", "studio", "--no-open", "--port", "0", "--runtime", "torch"]
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


def test_this_machine_then_this_browser_then_nobody(
    browser: Browser, studio: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    running, address = studio
    page = browser.chromium.new_context(viewport={"width": 1000, "height": 700}).new_page()
    visitor = Visitor(page, address)
    page.add_init_script(ANSWERS)
    page.goto(address)
    page.wait_for_selector("#loading:has-text('Ready.')", timeout=60_000)
    assert page.input_value("#engine") == "machine:torch"

    visitor.drop(encoded(photo(), "PNG"), "drum.png", "image/png")
    page.wait_for_selector("#status:has-text('Tap')", timeout=60_000)
    page.wait_for_timeout(500)
    levels = [each["level"] for each in visitor.tap(*POINT)]
    assert levels[0] == 0
    assert levels[-1] == 2

    saved = Image.open(visitor.download("#save", tmp_path))
    assert (saved.size, saved.format) == ((photo().shape[1], photo().shape[0]), "PNG")

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
    page.context.close()
