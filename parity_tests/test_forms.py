"""JUnit XML, the HTML page and the curve: the same rows in other forms."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from deeplens.parity_tests.cases import LoopCase
from deeplens.parity_tests.compare import NETWORK, Row, Status, measure
from deeplens.parity_tests.junit import junit
from deeplens.parity_tests.outputs import Outputs
from deeplens.parity_tests.page import TITLE, amplified, page
from deeplens.parity_tests.plot import curves, figure, panels, png, runtimes_of
from deeplens.parity_tests.report import Located, Look, Report, limit_used, looks_of
from deeplens.parity_tests.tables import COLUMNS, DIGEST, LEGEND

needs_matplotlib = pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")

ARRAY = np.linspace(0, 1, 48).reshape(1, 3, 4, 4)


def row(what: str, status: Status = "passed", *, off: float = 1e-7, input: str = "random", note: str = "") -> Row:
    measured = measure(ARRAY + off, ARRAY, ARRAY + 1e-8) if status in ("passed", "failed") else None
    return Row("edge", "onnx fp32", what, input, "dynamic", (96, 160), NETWORK, status, note, measured)


REPORT = Report(
    (
        row("upsample"),
        row("lens_blur", "failed", off=1e-2),
        row("depth", "stale", note="the depth artefact comes from other weights <&>"),
        replace(row("all", "not run", note="not run: needs an NVIDIA GPU"), runtime="trt fp16"),
        replace(
            row("upsample", "compiles", note="compiles: SM 8.9; numbers not run: needs an NVIDIA GPU"), runtime="rtx"
        ),
        row("depth map", input="loop"),
        row("level 0", input="loop", off=2e-7),
        row("level 1", input="loop", off=4e-7),
    ),
    "photo.jpg",
    {"torch": "2"},
    machine="Linux x86_64",
    looks=(Look("edge onnx", np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)),),
    artifacts={"onnx/edge_depth.onnx": "ab" * 32},
    located=(Located("edge lens_blur, onnx fp32", "Conv conv2d", "stem", "the first operation is Conv conv2d"),),
)


def test_junit_says_failed_skipped_and_passed() -> None:
    suite = ElementTree.fromstring(junit(REPORT)).find("testsuite")
    assert suite is not None
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "8", "failures": "2", "errors": "0", "skipped": "2",
    }  # fmt: skip
    kinds = [
        next((kind for kind in ("failure", "skipped") if each.find(kind) is not None), "")
        for each in suite.iter("testcase")
    ]
    assert kinds == ["", "failure", "failure", "skipped", "skipped", "", "", ""]
    texts = [each.get("message", "") for each in suite.iter("failure")]
    assert "max |d| 0.01" in texts[0]
    assert "<&>" in texts[1]
    broken = Report((row("depth", "stale", note="\0 and \x1b[31m"),), None, {})
    ElementTree.fromstring(junit(broken))  # what XML can't hold is left out


class Read(HTMLParser):
    """What a page refers to, its text, its tables' columns, first cells and captions, and what pictures show."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.alts: list[str] = []
        self.metas: dict[str, str] = {}
        self.columns: list[list[str]] = []
        self.first: list[list[str]] = []
        self.captions: list[str] = []
        self.boxed: list[bool] = []
        self.text = ""
        self._open: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object", "base")
        given = {name: value or "" for name, value in attrs}
        self.sources += [given[name] for name in ("src", "srcset", "href", "poster", "action") if name in given]
        if tag == "img":
            self.alts.append(given.get("alt", ""))
        if tag == "meta" and "name" in given:
            self.metas[given["name"]] = given["content"]
        if tag == "table":
            self.boxed.append(self._open[-1][1].get("class") == "box")
            self.columns.append([])
            self.first.append([])
            self.captions.append("")
        if tag == "tr" and self._within("tbody"):
            self.first[-1].append("")
        if tag == "th":
            assert given["scope"] == ("row" if self._within("tbody") else "col")
            if given["scope"] == "col":
                self.columns[-1].append("")
        if tag not in ("img", "meta", "source", "br"):
            self._open.append((tag, given))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self._within("style"):
            assert not re.search(r"url\(|@import|https?:", data)
            return
        self.text += data
        if self._within("caption"):
            self.captions[-1] += data
        if self._within("th"):
            (self.first[-1] if self._within("tbody") else self.columns[-1])[-1] += data

    def _within(self, tag: str) -> bool:
        return any(name == tag for name, _ in self._open)


@needs_matplotlib
def test_the_page_needs_no_other_file() -> None:
    read = Read(page(REPORT))
    assert len(read.sources) == 3  # the curve for light and for dark, a picture; there is no difference to show
    assert all(source.startswith("data:image/") for source in read.sources)
    for text in ("No pixel differs", "needs an NVIDIA GPU", "Conv conv2d", "ab" * 32, "<&>", "photo.jpg"):
        assert text in read.text
    assert re.search(r"ULP: \d+ of 48", page(REPORT))
    empty = page(Report((), None, {}))
    assert "no loop was compared" in Read(empty).text


@pytest.mark.slow
def test_the_page_begins_with_what_came_out() -> None:
    read = Read(page(REPORT))
    top = read.text[read.text.index(TITLE, read.text.index(TITLE) + 1) :][:400]
    assert "4 passed, 1 failed, 1 stale (made from other weights), 1 compiled only, 1 not run." in top
    assert "The worst row is edge depth on onnx fp32, random, dynamic, 96×160: the depth artefact comes from" in top
    failed = Read(page(replace(REPORT, rows=tuple(each for each in REPORT.rows if each.status != "stale"))))
    assert re.search(r"The worst row is edge lens_blur on onnx fp32.*: it takes \d+ % of what is allowed", failed.text)
    good = tuple(each for each in REPORT.rows if each.status == "passed")
    assert "The row closest to its limit is edge level 1 on onnx fp32, loop" in Read(page(Report(good, None, {}))).text


@needs_matplotlib
def test_the_page_in_a_narrow_window_and_for_a_reader_of_the_screen() -> None:
    read = Read(page(REPORT))
    assert read.metas["viewport"] == "width=device-width, initial-scale=1"
    assert read.metas["color-scheme"] == "light dark"
    assert all(read.boxed)  # each table scrolls in a box of its own
    assert all(read.captions)
    assert len(read.alts) == 2
    assert all(read.alts)


def test_tables_begin_with_the_verdict_and_name_their_columns_apart() -> None:
    read = Read(page(REPORT))
    for columns in (COLUMNS, DIGEST, *read.columns):
        assert len(set(columns)) == len(columns)
    assert COLUMNS[0] == "result"
    wide = [index for index, columns in enumerate(read.columns) if "max |d|" in columns]
    assert [read.captions[index] for index in wide] == ["edge on onnx fp32: 4 of 6 passed"]
    assert read.columns[wide[0]][:2] == ["result", "limit used"]
    assert read.first[wide[0]] == [
        "passed upsample", "failed lens_blur", "stale depth", "passed depth map", "passed level 0", "passed level 1",
    ]  # fmt: skip
    assert "cosine" in read.columns[wide[0]]
    assert "PSNR allowed, dB" not in read.columns[wide[0]]  # FP32 has no such limit: no column without a number
    allowed = [name for name in read.columns[wide[0]] if "allowed" in name]
    assert allowed == ["max |d| allowed", "mean |d| allowed", "share of spread allowed"]


def test_the_legend_is_two_lines_and_names_what_columns_say() -> None:
    text = Read(page(REPORT)).text
    assert len(LEGEND) == 2
    for line in LEGEND:
        assert line in text
    for name in ("|d|", "allowed", "Limit used", "Spread", "ULP", "own rounding"):
        assert any(name in line for line in LEGEND)


@pytest.mark.parametrize(
    ("steps", "white", "said"),
    [
        ([1], 255, "× 255: white is 1 step of 8 bits, the largest difference"),
        ([3, 6], 255, "× 42.5: white is 6 steps of 8 bits, the largest difference"),
        ([1] * 995 + [2] * 4 + [200], 255, "× 31.9: white is 8 steps of 8 bits or more; the largest difference is 200"),
    ],
)
def test_in_a_difference_picture_something_shows(steps: list[int], white: int, said: str) -> None:
    off = np.zeros((40, 50), np.uint8)
    off.flat[: len(steps)] = steps
    shown, text = amplified(off)
    assert shown is not None
    assert shown.max() == white
    assert said in text
    assert amplified(np.zeros((4, 4), np.uint8))[0] is None


@needs_matplotlib
def test_the_plot_holds_all_its_points() -> None:
    exact = replace(row("level 2", input="loop", off=0.0), note="exactly equal")
    rows = (*REPORT.rows, row("level 2", input="loop", off=3e-2), replace(exact, runtime="torch.export fp32"))
    (panel,) = panels(Report(rows, None, {}))
    made = figure(panel, runtimes_of([panel]))
    made.draw_without_rendering()
    (axis,) = made.axes
    (low, high), (left, right) = axis.get_ylim(), axis.get_xlim()
    drawn = [tuple(point) for line in axis.lines for point in np.asarray(line.get_xydata()).tolist()]
    assert len(drawn) == 2 * (4 + 1) + 1  # two runtimes, each with its own rounding, and a mark where it is equal
    assert all(left < x < right and low < y < high for x, y in drawn)
    box = made.bbox
    inside = [axis.title, axis.xaxis.label, axis.yaxis.label, *made.legends]
    for artist in inside:
        extent = artist.get_window_extent()
        assert box.x0 <= extent.x0 < extent.x1 <= box.x1, artist
        assert box.y0 <= extent.y0 < extent.y1 <= box.y1, artist


@needs_matplotlib
def test_curves_follow_the_levels() -> None:
    (curve,) = curves(REPORT.rows)
    assert curve.stages == ("depth", "0", "1")
    np.testing.assert_allclose(curve.worst, (1e-7, 2e-7, 4e-7), rtol=1e-6)
    np.testing.assert_allclose(curve.own, 1e-8, rtol=1e-6)
    picture = png(REPORT)
    assert picture is not None
    assert Image.open(BytesIO(picture)).size[0] > 300
    assert png(Report(REPORT.rows[:1], None, {})) is None


def test_a_look_keeps_a_single_wrong_pixel() -> None:
    case = LoopCase(np.zeros((900, 1000, 3), np.uint8), "dynamic", (0.5, 0.5), 1.0)
    found = np.zeros((900, 1000, 3), np.uint8)
    found[517, 611, 1] = 2
    name = f"{case.name}/8-bit picture"
    (look,) = looks_of("edge", "onnx", [case], Outputs({name: found}), Outputs({name: case.pixels}))
    assert max(look.off.shape) <= 400
    assert look.off.max() == 2
    assert np.count_nonzero(look.off) == 1


def test_the_limit_that_is_used_most() -> None:
    gate = replace(NETWORK, absolute=1e-5, relative=1e-5, mean=1e-5, decibels=60.0)
    found = row("upsample", off=1e-6)
    assert found.measured is not None
    plain = replace(found.measured, max_abs=1e-6, judge=0.0, relative=0.0, mean_abs=0.0, psnr=120.0)

    def used(**changed: Any) -> float:
        return limit_used(replace(found, gate=gate, measured=replace(plain, **changed)))

    assert used() == pytest.approx(0.1)
    assert used(judge=2e-6) == pytest.approx(0.2)
    assert used(relative=3e-6) == pytest.approx(0.3)
    assert used(mean_abs=4e-6) == pytest.approx(0.4)
    assert used(psnr=66.0206) == pytest.approx(0.5, rel=1e-3)
    assert used(max_abs=float("nan")) == float("inf")
