"""The web page in real Chromium, as a person uses it: drop, tap, drag, compare, focus pull, save, and errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplens.parity_tests.metrics import difference, psnr
from deeplens.runtimes.disparity import focal_disparity_at
from deeplens.runtimes.harness import Harness, aperture_from_f_number
from deeplens.runtimes.photo import read_photo
from deeplens.runtimes.web import WebRuntime
from deeplens.runtimes.web_browser import Browser
from deeplens.runtimes.web_page import MODELS
from deeplens.runtimes.web_server import PageServer
from tests.web.conftest import Visitor, encoded, photo, visit

pytestmark = pytest.mark.slow

POINT = (0.35, 0.45)

BYTES = 20e6
"""That a first visitor loads at most before the first photo."""


@pytest.fixture(scope="module")
def opened(visitor: Visitor) -> Visitor:
    """The photo of the tests is open, and focused once."""
    visitor.open(encoded(photo(), "PNG"), "drum.png", "image/png")
    visitor.tap(*POINT)
    return visitor


def test_few_bytes_and_threads_on_a_static_host(visitor: Visitor, server: PageServer) -> None:
    assert visitor.page.evaluate("crossOriginIsolated")
    assert 10e6 < server.sent < BYTES
    assert not visitor.problems


def test_a_tap_sharpens_level_by_level(opened: Visitor) -> None:
    answers = opened.tap(0.9, 0.1)
    levels = [each["level"] for each in answers]
    assert levels == sorted(levels)
    assert levels[-1] == 2
    assert len(levels) >= 3
    height, width = photo().shape[:2]
    for each in answers:  # each level shows exactly the photo, so that they lie on one another
        scale = 2 ** (2 - each["level"])
        assert each["covered"] == [width / scale, height / scale]
        assert each["size"][0] >= each["covered"][0]
        assert each["size"][1] >= each["covered"][1]
    assert "Ready after" in opened.page.inner_text("#status")
    assert opened.page.get_attribute("#status", "aria-live") == "polite"


@pytest.mark.usefixtures("shipped")
def test_the_saved_photo_is_that_of_refocus(opened: Visitor, tmp_path: Path) -> None:
    from deeplens.runtimes.pytorch import TorchRuntime

    opened.tap(*POINT)
    f_number = float(opened.page.inner_text("#f-number").removeprefix("f/"))
    saved = opened.download("#save", tmp_path)
    assert saved.name == "drum_refocused.png"
    found = np.asarray(Image.open(saved).convert("RGB"))
    with TorchRuntime() as runtime:
        harness = Harness(runtime)
        disparity = harness.disparity(photo())
        aperture = aperture_from_f_number(f_number)
        focal = focal_disparity_at(disparity, *POINT)
        due = harness.refocus(photo(), disparity, focal_disparity=focal, aperture=aperture)
        other = harness.refocus(photo(), disparity, focal_disparity=0.0, aperture=aperture)
    assert difference(found, due).max() <= 1
    assert difference(found, other).max() > 20, "the control: another focus is another picture"


def test_a_drag_is_answered_while_it_lasts(opened: Visitor) -> None:
    mouse = opened.page.mouse
    mouse.move(*opened.at(0.2, 0.2))
    opened.forget()
    mouse.down()
    for step in range(12):
        mouse.move(*opened.at(0.2 + 0.05 * step, 0.2 + 0.04 * step))
        opened.page.wait_for_timeout(60)
    opened.page.wait_for_function("window.answers.length >= 2", timeout=30_000)
    during = opened.page.evaluate("window.answers.map(({ level }) => level)")
    assert set(during) <= {-1, 0}
    mouse.up()
    levels = [each["level"] for each in opened.answers()]
    assert levels[-1] == 2


def test_the_aperture_and_a_range(opened: Visitor) -> None:
    opened.forget()
    opened.page.focus("#aperture")
    opened.page.keyboard.press("End")
    opened.answers()
    assert opened.page.inner_text("#f-number") == "f/16"
    assert opened.page.get_attribute("#aperture", "aria-valuetext") == "f/16"
    opened.forget()
    opened.page.keyboard.press("Home")
    opened.answers()
    assert opened.page.inner_text("#f-number") == "f/1.4"

    opened.choose("sharp", "range")
    opened.tap(0.35, 0.45)
    blurred = opened.seen(0.52, 0.02)
    opened.tap(0.52, 0.02)  # now all between the two is sharp
    near, far = (float(opened.page.input_value(f"#{end}")) for end in ("near", "far"))
    assert near - far > 10
    height, width = photo().shape[:2]
    due = photo()[int(0.02 * height), int(0.52 * width)].astype(int)
    assert np.abs(np.array(opened.seen(0.52, 0.02)) - due).max() <= np.abs(np.array(blurred) - due).max() + 8
    opened.choose("sharp", "plane")
    opened.answers()


def test_before_and_after(opened: Visitor) -> None:
    opened.tap(0.35, 0.45)
    after = opened.seen(0.3, 0.05)
    opened.choose("view", "compare")
    before = opened.seen(0.3, 0.05)
    assert before != after
    opened.page.focus("#divider")
    opened.page.keyboard.press("Home")
    assert opened.seen(0.3, 0.05) == after
    mouse = opened.page.mouse
    mouse.move(*opened.at(0.005, 0.5))
    mouse.down()
    mouse.move(*opened.at(0.8, 0.5))
    mouse.up()
    assert opened.seen(0.3, 0.05) == before
    assert float(opened.page.input_value("#divider")) == pytest.approx(80, abs=2)
    opened.choose("view", "result")


def test_keys_do_what_a_finger_does(opened: Visitor) -> None:
    opened.page.focus("#photo")
    opened.forget()
    for key in ("ArrowRight", "ArrowUp", "Enter"):
        opened.page.keyboard.press(key)
    assert opened.answers()[-1]["level"] == 2
    opened.page.keyboard.press("d")
    assert opened.page.is_checked("[value=depth]")
    grey = opened.seen(0.95, 0.05)
    assert max(grey) - min(grey) < 80
    opened.page.keyboard.press("d")
    assert opened.page.is_checked("[value=result]")


def test_a_focus_pull_is_saved(opened: Visitor, tmp_path: Path) -> None:
    opened.open(encoded(photo()[100:300, 150:450], "PNG"), "small.png", "image/png")
    opened.tap(0.35, 0.75)
    opened.page.click("#pull")
    opened.page.mouse.click(*opened.at(0.95, 0.05))
    opened.page.wait_for_selector("#pull-save:not([hidden])", timeout=120_000)
    formats = opened.page.evaluate("[...document.querySelectorAll('#pull-save button')].map((b) => b.dataset.format)")
    assert {"webp", "gif"} < set(formats), "and a film"
    for suffix in formats:
        path = opened.download(f"[data-format={suffix}]", tmp_path)
        assert path.name == f"focus_pull.{suffix}"
        if suffix in ("mp4", "webm"):
            data = path.read_bytes()
            assert data[4:8] == b"ftyp" or data[:4] == b"\x1a\x45\xdf\xa3"
            assert len(data) > 5000
            continue
        film = Image.open(path)
        count = getattr(film, "n_frames", 1)
        assert count >= 30
        first = np.asarray(film.convert("RGB")).astype(int)
        film.seek(20)
        last = np.asarray(film.convert("RGB")).astype(int)
        assert np.abs(first - last).mean() > 0.5
        film.seek(count - 1)  # and back again
        back = np.asarray(film.convert("RGB")).astype(int)
        assert np.abs(first - back).mean() < np.abs(first - last).mean()
    opened.forget()
    opened.page.click("#pull-end")
    assert opened.page.is_hidden("#pulling")
    assert opened.answers(), "the photo, focused where the pull ended"


def test_a_jpeg_is_turned_and_keeps_what_it_says(opened: Visitor, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "A camera", 6
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    exif.get_ifd(0x8769)[0xA002] = 660
    turned = encoded(photo(), "JPEG", exif=exif, quality=95)
    due = read_photo(_stored(tmp_path, turned)).pixels
    opened.open(turned, "turned.jpg", "image/jpeg")
    opened.tap(0.5, 0.5)
    saved = Image.open(opened.download("#save", tmp_path))
    assert saved.size == (due.shape[1], due.shape[0]) == (439, 660)
    kept = saved.getexif()
    assert (kept[0x010F], kept[0x0112]) == ("A camera", 1)
    assert kept.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
    assert kept.get_ifd(0x8769)[0xA002] == 439


def _stored(folder: Path, data: bytes) -> Path:
    path = folder / "turned.jpg"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("notes.txt", b"not a photo", "notes.txt is not a photo that this browser can read"),
        ("empty.jpg", b"", "empty.jpg is empty"),
        ("phone.heic", b"\0\0\0\x18ftypheic" + bytes(64), "is a HEIC photo that can't be read: it is damaged"),
        ("scan.tif", b"II*\0" + bytes(64), "TIFF or raw photo"),
    ],
)
def test_what_can_not_be_opened_is_said(opened: Visitor, name: str, data: bytes, says: str) -> None:
    opened.drop(data, name)
    error = opened.page.locator("#error[role=alert]")
    error.wait_for(state="visible", timeout=30_000)
    assert says in error.inner_text()
    error.locator("button").click()
    assert error.is_hidden()
    assert not opened.problems


def test_without_a_network_after_the_first_visit(visitor: Visitor) -> None:
    visitor.page.context.set_offline(True)
    try:
        visitor.page.reload()
        visitor.page.wait_for_function("document.getElementById('loading').textContent === 'Ready.'", timeout=90_000)
        visitor.open(encoded(photo(), "WEBP"), "offline.webp", "image/webp")
        assert visitor.tap(*POINT)[-1]["level"] == 2
    finally:
        visitor.page.context.set_offline(False)


def test_the_self_test_passes_and_can_fail(browser: Browser, built: Path, tmp_path: Path) -> None:
    other = tmp_path / "page"  # the same page with the vectors of another effect
    (other / "models").mkdir(parents=True)
    for each in (*built.iterdir(), *(built / "models").iterdir()):
        if each.name != "models":
            (other / each.relative_to(built)).symlink_to(each)
    vectors = other / "models" / "selftest.bin"
    values = np.frombuffer(vectors.read_bytes(), "<f4").copy()
    vectors.unlink()
    values[-20:] += 0.5
    vectors.write_bytes(values.tobytes())
    for folder, result in ((built, "passed"), (other, "failed")):
        with PageServer(folder) as server:
            page = browser.chromium.new_page()
            page.goto(f"{server.address}?selftest")
            page.wait_for_selector("#test-result[data-result]", timeout=90_000)
            assert page.get_attribute("#test-result", "data-result") == result, page.inner_text("#test")
            assert page.locator("#test-lines tr").count() == (5 if has_draft(built) else 4)
            page.close()


def has_draft(page: Path) -> bool:
    return "draft" in json.loads((page / MODELS / "models.json").read_text(encoding="utf-8"))


def test_a_drag_in_int8_is_nearly_the_exact_one(built: Path) -> None:
    if not has_draft(built):
        pytest.skip("the built page carries no INT8: make web")
    with WebRuntime() as runtime:
        runtime.put("photo", np.frombuffer(encoded(photo(), "PNG"), np.uint8))
        runtime.take("map", runtime.call("open", "photo", "drum.png", "map")["shape"])
        runtime.call("draft")
        settings = {"focus": {"disparity": 0.6, "range": 0.0}, "fNumber": 1.4}
        answers = {}
        for way in ("whole", "draft", "half"):
            told = runtime.call("drag", settings, way, way)
            assert (told["level"], told["draft"]) == (-1 if way == "half" else 0, way == "draft")
            answers[way] = runtime.take(way, told["shape"], "u1")
    assert answers["half"].shape[0] * 2 == answers["whole"].shape[0]
    assert (answers["draft"] != answers["whole"]).any()
    assert psnr(answers["draft"] / 255, answers["whole"] / 255) > 40


def test_a_phone_in_the_dark_shows_photo_and_controls(browser: Browser, server: PageServer) -> None:
    phone = visit(
        browser, server, viewport={"width": 375, "height": 740}, color_scheme="dark", has_touch=True, is_mobile=True
    )
    phone.open(encoded(photo(), "PNG"), "drum.png", "image/png")
    phone.page.touchscreen.tap(*phone.at(*POINT))
    phone.answers()
    width, height = phone.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert (width, height) == (375, 740)
    for selector in ("#photo", "#aperture", "#save"):
        phone.page.locator(selector).scroll_into_view_if_needed()
        box = phone.page.locator(selector).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 375
        assert box["height"] >= 30
    assert phone.page.is_visible("#another")
    phone.page.context.close()
