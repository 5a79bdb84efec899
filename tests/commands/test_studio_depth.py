"""Depth in `deeplens studio`: from the photo's own file, where it holds a map and that is asked for."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="Starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

from deeplens.runtimes.portrait import embedded_disparity
from tests.conftest import Command
from tests.support.portrait_files import write_gdepth, write_mpf
from tests.support.studio_browser import Browser, served
from tests.support.studio_photos import PHOTO, made


@pytest.fixture(scope="module")
def browser(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with served(artifacts, tmp_path_factory.mktemp("private")) as server:
        yield server.browser()


def test_depth_comes_from_the_file_where_that_is_asked_for(
    browser: Browser, deeplens: Command, artifacts: Path, tmp_path: Path
) -> None:
    path = tmp_path / "portrait.jpg"
    pixels = np.ascontiguousarray(made(96, 128))
    metres = 1 + np.mgrid[:96, :128][1].astype(np.float32) / 32
    write_gdepth(path, pixels, metres)
    said = browser.upload(path.read_bytes(), path.name).json
    assert said["embedded"] is True
    place = f"/api/photos/{said['photo']}"
    assert browser.ask("GET", place).json == said
    assert browser.ask("GET", f"{place}/file").body == path.read_bytes()
    maps, results = {}, {}
    for depth, more in (("embedded", ("--depth", "embedded")), ("predicted", ())):
        out = tmp_path / f"{depth}.jpg"
        ours = ("--runtime", "onnx", "--artifacts", artifacts)
        assert deeplens("refocus", path, "--focus", "0.3,0.7", *more, *ours, "-o", out).status == 0
        results[depth] = browser.wish(said["photo"], "result", focus=[0.3, 0.7], depth=depth).body
        assert results[depth] == out.read_bytes()
        maps[depth] = browser.ask("GET", f"{place}/disparity?depth={depth}").body
    np.testing.assert_array_equal(np.frombuffer(maps["embedded"], "<f4").reshape(96, 128), embedded_disparity(path))
    assert results["embedded"] != results["predicted"]
    assert browser.wish(said["photo"], "result", focus=[0.3, 0.7]).body == results["predicted"], "unless it is said"
    assert browser.wish(said["photo"], focus=[0.3, 0.7], depth="guessed").error == "depth is predicted or embedded"
    assert browser.ask("GET", f"{place}/disparity?depth=guessed").status == 400
    browser.ask("DELETE", place)


def test_depth_in_the_file_that_can_not_be_used_is_told(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "portrait.jpg"
    metres = 1 + np.mgrid[:96, :128][1].astype(np.float32) / 32
    for map_, why in ((metres[:, :64], "does not fit the photo"), (np.ones_like(metres), "the same everywhere")):
        if why == "the same everywhere":
            write_mpf(path, made(96, 128), np.uint8(map_), says="disparity")
        else:
            write_gdepth(path, made(96, 128), map_)
        said = browser.upload(path.read_bytes(), path.name).json
        assert said["embedded"] is False
        (note,) = [each for each in said["notes"] if "not used" in each]
        assert why in note
        assert str(tmp_path) not in note
        assert "no depth map that can be used" in browser.wish(said["photo"], disparity=0.5, depth="embedded").error
        browser.ask("DELETE", f"/api/photos/{said['photo']}")
    said = browser.upload(PHOTO).json
    assert (said["embedded"], [note for note in said["notes"] if "depth" in note]) == (False, [])
    browser.ask("DELETE", f"/api/photos/{said['photo']}")
