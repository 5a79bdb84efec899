"""The choice between the phone's depth map and the predicted one, in the browser and on "this machine"."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deeplens.parity_tests.metrics import difference
from deeplens.runtimes.disparity import focal_disparity_at
from deeplens.runtimes.harness import Harness, aperture_from_f_number
from deeplens.runtimes.photo import read_photo
from deeplens.runtimes.portrait import embedded_disparity
from deeplens.runtimes.web_browser import Browser
from deeplens.runtimes.web_server import PageServer
from tests.support.device import needs_torch
from tests.support.portrait_files import write_gdepth
from tests.web.conftest import Visitor, at_studio, encoded, photo, studio, visit

pytestmark = [pytest.mark.slow, needs_torch, pytest.mark.usefixtures("shipped")]

POINT = (0.35, 0.45)
F_NUMBER = 2
PIXELS = np.ascontiguousarray(photo()[:352, :528])
ROWS, COLUMNS = np.mgrid[:88, :132].astype(np.float32)
METRES = 1 + COLUMNS / 20 + ROWS / 200
EMBEDDED, PREDICTED = "[name=depth][value=embedded]", "[name=depth][value=predicted]"


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phone") / "portrait.jpg"
    write_gdepth(path, PIXELS, METRES)
    return path


@pytest.fixture(scope="module")
def due(portrait: Path) -> Iterator[dict[str, np.ndarray]]:
    """What `deeplens refocus` makes of it at `F_NUMBER`, with `--depth embedded` and without."""
    from deeplens.runtimes.pytorch import TorchRuntime

    pixels = read_photo(portrait).pixels
    with TorchRuntime() as runtime:
        harness = Harness(runtime)
        maps = {"embedded": embedded_disparity(portrait), "predicted": harness.disparity(pixels)}
        yield {
            source: harness.refocus(
                pixels,
                map_,
                focal_disparity=focal_disparity_at(map_, *POINT),
                aperture=aperture_from_f_number(F_NUMBER),
            )
            for source, map_ in maps.items()
        }


@pytest.fixture(scope="module")
def visitor(browser: Browser, built: Path) -> Iterator[Visitor]:
    with PageServer(built, isolated=False) as server:
        yield visit(browser, server)


def opened(visitor: Visitor, portrait: Path) -> None:
    visitor.open(portrait.read_bytes(), portrait.name, "image/jpeg")


def choose(visitor: Visitor, key: str) -> None:
    """Move the choice with an arrow key, as without a mouse, and wait for the picture that follows."""
    visitor.page.focus("[name=depth]:checked")
    visitor.forget()
    visitor.page.keyboard.press(key)
    visitor.answers()


def test_the_two_choices_are_those_of_refocus(visitor: Visitor, portrait: Path, due: dict[str, np.ndarray]) -> None:
    assert difference(due["embedded"], due["predicted"]).max() > 20, "the control: the two choices differ"
    page = visitor.page
    visitor.open(encoded(PIXELS[:200], "PNG"), "plain.png", "image/png")
    assert page.is_hidden("#depth-choice"), "a photo without a map leaves no choice"
    opened(visitor, portrait)
    group = page.get_by_role("group", name="Depth map")
    assert group.is_visible()
    assert page.get_by_role("radio", name="The phone's").is_checked()
    visitor.tap(*POINT)
    assert page.inner_text("#f-number") == f"f/{F_NUMBER}"
    assert difference(visitor.picture(), due["embedded"]).max() <= 1
    assert "the phone put into the photo" in page.inner_text("#depth-hint")
    near = page.input_value("#near")

    choose(visitor, "ArrowRight")
    assert page.is_checked(PREDICTED)
    assert difference(visitor.picture(), due["predicted"]).max() <= 1, "the same point, in the other map"
    assert page.input_value("#near") != near
    assert "predicted" in page.inner_text("#depth-hint")

    visitor.open(encoded(PIXELS[:200], "PNG"), "plain.png", "image/png")
    opened(visitor, portrait)
    assert page.is_checked(PREDICTED), "it is remembered for the photo"
    visitor.choose("view", "depth")
    shown = [visitor.seen(x, 0.5) for x in (0.02, 0.98)]
    visitor.choose("depth", "embedded")
    page.wait_for_selector("#status:has-text('Tap')")
    assert [visitor.seen(x, 0.5) for x in (0.02, 0.98)] != shown
    near_left, far_right = (visitor.seen(x, 0.5)[2] for x in (0.02, 0.98))
    assert near_left > far_right + 60, "the depth view shows the phone's map"
    visitor.choose("view", "result")
    visitor.tap(*POINT)
    assert difference(visitor.picture(), due["embedded"]).max() <= 1
    assert not visitor.problems


def test_a_range_that_was_set_by_its_ends_stays(visitor: Visitor, portrait: Path) -> None:
    opened(visitor, portrait)
    visitor.choose("sharp", "range")
    visitor.forget()
    visitor.page.focus("#near")
    visitor.page.keyboard.press("ArrowRight")
    visitor.answers()
    ends = [visitor.page.input_value(f"#{end}") for end in ("near", "far")]
    before = visitor.picture()
    choose(visitor, "ArrowRight")
    assert [visitor.page.input_value(f"#{end}") for end in ("near", "far")] == ends
    assert difference(visitor.picture(), before).max() > 20


def test_this_machine_is_asked_the_same_way(browser: Browser, portrait: Path, due: dict[str, np.ndarray]) -> None:
    """The photo comes from the command line; then the browser takes it over, with its map and the choice."""
    with studio(portrait) as (running, address):
        visitor = at_studio(browser, address)
        page = visitor.page
        page.click("#given button")
        page.wait_for_selector("#status:has-text('Tap')", timeout=60_000)
        page.wait_for_timeout(300)
        assert page.is_checked(EMBEDDED)
        visitor.tap(*POINT)
        assert difference(visitor.picture(), due["embedded"]).max() <= 1
        choose(visitor, "ArrowRight")
        assert difference(visitor.picture(), due["predicted"]).max() <= 1

        visitor.forget()
        page.select_option("#engine", "wasm")
        visitor.answers()
        assert page.is_checked(PREDICTED), "the other engine keeps the choice"
        assert difference(visitor.picture(), due["predicted"]).max() <= 1
        choose(visitor, "ArrowLeft")
        assert difference(visitor.picture(), due["embedded"]).max() <= 1
        visitor.forget()
        page.select_option("#engine", "machine:torch")
        visitor.answers()
        assert page.is_checked(EMBEDDED)

        running.kill()
        running.wait(timeout=30)
        page.click(PREDICTED, force=True)
        error = page.locator("#error[role=alert]")
        error.wait_for(state="visible", timeout=30_000)
        assert "The machine does not answer any more" in error.inner_text()
        assert page.is_checked(EMBEDDED), "what failed was not chosen"
        page.context.close()
