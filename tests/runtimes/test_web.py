"""The web page as a runtime: what it says where something is missing, and its rows in the parity table."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplens import runtimes
from deeplens.console.errors import InputError, MissingError
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes import spec, web_page
from deeplens.runtimes.web_browser import VARIABLE, chromium_path
from deeplens.runtimes.web_page import page_folder
from deeplens.runtimes.web_server import PageServer
from tests.conftest import ROOT
from tests.support.device import needs_torch


def test_a_page_that_is_not_built_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_page, "PAGE_FOLDER", tmp_path)
    with pytest.raises(MissingError, match=r"the web page is not built, index\.html is missing .* run make web"):
        page_folder()
    (tmp_path / "index.html").touch()
    with pytest.raises(MissingError, match=r"models/models\.json is missing"):
        page_folder()


def test_no_browser_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(MissingError, match=f"no Chromium was found: .*{VARIABLE}"):
        chromium_path()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    with pytest.raises(MissingError, match="which can't be run"):
        chromium_path()


def test_auto_never_means_the_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spec, "has_library", lambda name: name == "playwright")
    with pytest.raises(MissingError):
        runtimes.resolved("auto", variant="edge", artifacts=tmp_path)
    assert runtimes.resolved("web", variant="edge") == ("web", "fp32")


def test_the_server_has_one_folder_and_arrays(tmp_path: Path) -> None:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("the page")
    (tmp_path / "secret").write_text("not of the page")
    with PageServer(tmp_path / "page") as server:
        with urlopen(server.address) as answer:
            assert answer.read() == b"the page"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        urlopen(Request(f"{server.address}drive/one", data=b"1234")).close()
        assert server.arrays == {"one": b"1234"}
        with urlopen(f"{server.address}drive/one") as answer:
            assert answer.read() == b"1234"
        for path in ("drive/two", "../secret", "%2e%2e/secret"):
            with pytest.raises(HTTPError, match="404"):
                urlopen(server.address + path)
        with pytest.raises(HTTPError, match="404"):
            urlopen(Request(f"{server.address}index.html", data=b"changed"))


@pytest.fixture
def _in_chromium() -> None:
    pytest.importorskip("playwright", reason="Playwright is not installed")
    try:
        chromium_path()
        page_folder()
    except MissingError as error:
        pytest.skip(str(error))


@needs_torch
@pytest.mark.slow
@pytest.mark.usefixtures("_in_chromium")
def test_its_rows_keep_the_limits(tmp_path: Path) -> None:
    from deeplens.parity_tests.cases import Coverage
    from deeplens.parity_tests.request import Request
    from deeplens.parity_tests.run import run

    photo = tmp_path / "photo.png"
    Image.open(ROOT / "samples" / "drum.jpg").crop((0, 500, 1366, 1400)).resize((341, 225)).save(photo)
    coverage = Coverage(dynamic_sizes=((40, 56),), fixed_size=(40, 56), loops=(("dynamic", None),))
    request = Request(
        variants=["edge"], runtimes=["web"], precisions=None, artifacts=None, weights="shipped", photo=photo,
        coverage=coverage,
    )  # fmt: skip
    rows = run(request).rows
    if any(row.status == "stale" for row in rows):
        pytest.skip("the built page carries other weights than this checkout: make web")
    assert {row.what for row in rows} == {
        "depth", "lens_blur", "upsample", "depth map", "level 0", "level 1", "8-bit picture"
    }  # fmt: skip
    assert {row.status for row in rows} == {"passed"}, [row for row in rows if row.status != "passed"]


@pytest.mark.slow
@pytest.mark.usefixtures("_in_chromium")
def test_it_opens_runs_and_closes() -> None:
    with runtimes.open_runtime("web") as runtime:
        session = runtime.open("upsample")
        assert runtime.open("upsample") is session
        shapes = {tensor.name: tensor.shape(32, 40) for tensor in CONTRACTS["upsample"].inputs}
        inputs = {name: np.full(shape, 0.5, np.float32) for name, shape in shapes.items()}
        output = session.run(inputs)["blurred_high"]
        assert output.shape == (1, 3, 64, 80)
        np.testing.assert_allclose(output, 0.5, atol=0.05)
        assert session.device_seconds is not None
        with pytest.raises(InputError, match="expected"):
            session.run({**inputs, "picture": inputs["picture"][:, :2]})
        session.close()
        with pytest.raises(InputError, match="this session is closed"):
            session.run(inputs)
    with pytest.raises(InputError, match="carries edge, not paper"):
        runtimes.open_runtime("web", variant="paper")
