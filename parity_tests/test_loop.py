"""The whole way: depth map, each level of the loop, and the 8-bit picture, on real photos."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from deeplens.export.onnx_graph import export_named
from deeplens.parity_tests.compare import FACTORS, LEVEL, PICTURE
from deeplens.parity_tests.conftest import COVERAGE, PHOTO, SMALL, Artifacts
from deeplens.parity_tests.report import Report
from deeplens.parity_tests.request import Request
from deeplens.parity_tests.run import run
from deeplens.runtimes import depth_store
from deeplens.runtimes.depth_add import add
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.ort import OnnxRuntime
from deeplens.runtimes.pytorch import TorchRuntime
from tests.support.tiny_depth import depth_anything

pytestmark = pytest.mark.slow

LOOPS = [
    ("edge", "dynamic", (1364, 2048), 3),
    ("edge", "fixed", (1364, 2048), 3),
    ("edge", "dynamic", (467, 701), 2),
    ("edge", "fixed", (467, 701), 2),
    ("paper", "dynamic", (256, 1288), 3),
    ("paper", "fixed", (66, 330), 1),
]


@pytest.mark.parametrize(("variant", "graph", "size", "steps"), LOOPS)
def test_each_level_and_the_picture(
    request: pytest.FixtureRequest, variant: str, graph: str, size: tuple[int, int], steps: int
) -> None:
    report: Report = request.getfixturevalue(f"{variant}_report")
    rows = [row for row in report.rows if (row.input, row.graph, row.size) == ("loop", graph, size)]
    levels = [f"level {level}" for level in range(steps + 1)]
    assert [row.what for row in rows] == ["depth map", *levels, "8-bit picture"]
    for row in rows:
        assert row.status == "passed", row
        assert row.measured is not None
        if row.what == "8-bit picture":
            assert row.gate == PICTURE
        else:  # a ceiling, and under it a multiple of the model's own rounding
            assert 0 < row.gate.absolute <= LEVEL.absolute
            assert row.gate.absolute <= max(FACTORS["fp32"].worst * row.measured.own, 1e-6)
    last, picture = rows[-2].measured, rows[-1].measured
    assert last is not None
    assert last.max_abs <= 5e-5
    assert last.judge <= 5e-5
    assert picture is not None
    assert picture.max_abs <= 1
    assert picture.shares is not None
    assert picture.shares.more == 0
    assert picture.shares.same > 0.99


@pytest.mark.parametrize("variant", ["edge", "paper"])
def test_nothing_else_is_in_the_table(request: pytest.FixtureRequest, variant: str) -> None:
    """14 rows of networks, and a depth map, the levels and a picture for each loop; all of them pass."""
    report: Report = request.getfixturevalue(f"{variant}_report")
    report.check()
    loops = sum(3 + steps for name, _, _, steps in LOOPS if name == variant)
    assert report.counts == {"passed": 14 + loops}


@pytest.mark.parametrize("graph", ["dynamic", "fixed"])
def test_a_loop_that_begins_at_level_1(weights: Path, artifacts: Artifacts, graph: str) -> None:
    """At f/2.8 the lens blur works at level 1 (`Variant.finer_base`): at once, or in windows of a fixed size."""
    pixels = np.asarray(Image.open(PHOTO).convert("RGB"))[:768, :1024]
    disparity = np.linspace(0, 1, 320, dtype=np.float32)[:, None].repeat(320, 1)
    shapes: Literal["dynamic"] | tuple[int, int] = "dynamic" if graph == "dynamic" else COVERAGE["edge"].fixed_size
    with OnnxRuntime(artifacts=artifacts("edge"), variant="edge", shapes=shapes) as onnx:
        found = Harness(onnx).refocus(pixels, disparity, focal_disparity=0.6, aperture=0.5)
    torch = TorchRuntime(variant="edge", weights=weights)
    expected = Harness(torch).refocus(pixels, disparity, focal_disparity=0.6, aperture=0.5)
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.99
    assert np.abs(expected.astype(int) - pixels).max() > 50


def test_a_depth_network_of_others_in_front(
    weights: Path, artifacts: Artifacts, strip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole table of a photo by name: a vision transformer's own rounding goes through all levels."""
    pytest.importorskip("transformers")
    monkeypatch.setenv(depth_store.ENVIRONMENT, str(tmp_path / "store"))
    add("vit", source=depth_anything(tmp_path / "net"), told={}, accepts=lambda _: True)
    folder = shutil.copytree(artifacts("edge"), tmp_path / "artifacts")
    export_named("vit", out=folder)
    coverage = replace(SMALL, fixed_size=(32, 48), loops=(("dynamic", 330),))  # the folder has no such fixed graphs
    request = Request(
        variants=["edge+vit"], runtimes=["onnx"], precisions=["fp32"], artifacts=folder, weights=weights, photo=strip,
        coverage=coverage,
    )  # fmt: skip
    report = run(request)
    report.check()
    rows = [row for row in report.rows if row.what == "depth" or row.graph == "dynamic"]
    assert {row.status for row in rows} == {"passed"}
    assert {row.what for row in rows} == {
        "depth", "lens_blur", "upsample", "depth map", "level 0", "level 1", "8-bit picture"
    }  # fmt: skip
    (depth,) = (row for row in rows if (row.what, row.input) == ("depth", "photo"))
    assert depth.measured is not None
    assert 0 < depth.measured.own < depth.gate.absolute
