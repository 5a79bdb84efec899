"""JUnit XML, the HTML page and the curve: the same rows in other forms."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from deeplens.parity_tests.cases import LoopCase
from deeplens.parity_tests.compare import NETWORK, Row, Status, measure
from deeplens.parity_tests.junit import junit
from deeplens.parity_tests.outputs import Outputs
from deeplens.parity_tests.page import page
from deeplens.parity_tests.plot import curves, png
from deeplens.parity_tests.report import GAIN, Located, Look, Report, looks_of

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


class Names(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link")
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_no_other_file() -> None:
    names = Names()
    names.feed(page(REPORT))
    assert len(names.sources) == 3  # the curve, a picture and its difference
    assert all(source.startswith("data:image/png;base64,") for source in names.sources)
    for text in ("2 of 8 rows fail", "needs an NVIDIA GPU", "Conv conv2d", "ab" * 32, "<&>", "photo.jpg"):
        assert text in names.text
    assert re.search(r"ULP: \d+ of 48", page(REPORT))
    empty = page(Report((), None, {}))
    assert "no loop was compared" in empty


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
    assert look.off.max() == 2 * GAIN
    assert np.count_nonzero(look.off) == 1
