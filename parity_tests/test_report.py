"""What is said about rows: their status, the three forms of the table, and when the whole fails."""

import json
from io import StringIO
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.parity_tests import tables
from deeplens.parity_tests.cases import Coverage, NetworkCase, random_cases
from deeplens.parity_tests.compare import FACTORS, NETWORK, PICTURE, Row, Status, compare, measure
from deeplens.parity_tests.outputs import Outputs
from deeplens.parity_tests.produce import artefact_opener, produce
from deeplens.parity_tests.report import Report
from deeplens.parity_tests.request import Request
from deeplens.parity_tests.run import run

ARRAY = np.array([[[[0.0, 0.5], [1.0, 0.25]]]])


def row(status: Status = "passed", *, note: str = "", error: float | None = 1e-7) -> Row:
    measured = None if error is None else measure(ARRAY + error, ARRAY, ARRAY)
    return Row("edge", "onnx", "lens_blur", "random", "dynamic", (96, 160), NETWORK, status, note, measured)


def report(*rows: Row) -> Report:
    return Report(rows, "photo.jpg", {"torch": "2"})


MISSING = row("not run", note="not run: needs the artefact", error=None)


def test_passed_only() -> None:
    report(row(), row()).check()
    report(row(), MISSING).check()


@pytest.mark.parametrize("status", ["failed", "stale"])
def test_one_row_that_fails_fails_the_whole(status: Status) -> None:
    with pytest.raises(MismatchError, match=r"1 of 3 parity checks fail.*edge lens_blur on onnx.*at most 1e-05"):
        report(row(), row(status, error=1e-3), MISSING).check()


def test_nothing_compared_is_not_a_success() -> None:
    with pytest.raises(MissingError, match="needs the artefact"):
        report(MISSING, MISSING).check()
    with pytest.raises(MissingError, match="nothing could be compared"):
        report().check()
    assert report(MISSING).to_json()["ok"] is False
    assert report().to_json()["ok"] is False


def test_what_was_not_run_is_never_called_passed() -> None:
    for text in (
        tables.markdown(report(MISSING)).split("| --- |")[-1],
        _terminal(report(MISSING)),
        _json(report(MISSING)),
    ):
        assert "not run: needs the artefact" in text
        assert "passed" not in text


def _terminal(made: Report) -> str:
    console = Console(file=StringIO(), width=400)
    console.print(tables.terminal(made))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def _json(made: Report) -> str:
    return json.dumps(made.to_json(), allow_nan=False)


def test_three_forms_say_the_same() -> None:
    made = report(row(error=3e-6), row("failed", error=2e-3), row("failed", error=float("nan")))
    assert made.counts == {"passed": 1, "failed": 2}
    for text in (tables.markdown(made), _terminal(made)):
        for part in ("96×160", "3e-06", "0.002", "1e-05", "nan", "failed"):
            assert part in text
    plain = json.loads(_json(made))
    assert plain["ok"] is False
    assert [each["status"] for each in plain["rows"]] == ["passed", "failed", "failed"]
    assert plain["rows"][0]["measured"]["max_abs"] == pytest.approx(3e-6)
    gate = {"absolute": NETWORK.absolute, "relative": NETWORK.relative, "decibels": None, "more": None, "mean": None}
    assert plain["rows"][0]["gate"] == gate  # JSON has no infinity
    assert plain["rows"][2]["measured"]["max_abs"] is None  # JSON has no NaN


def test_markdown_is_a_table() -> None:
    lines = [line.replace("\\|", "") for line in tables.markdown(report(row(), MISSING)).splitlines()]
    blocks = [list(block) for table, block in groupby(lines, lambda line: line.startswith("|")) if table]
    # A line for the runtime, one for each way of rounding, one for each row.
    assert [len(block) for block in blocks] == [3, 2 + len(FACTORS), 4]
    for block in blocks:
        assert len({line.count("|") for line in block}) == 1


def test_the_8_bit_picture_says_how_many_pixels_are_off() -> None:
    reference = np.zeros((10, 10, 3), np.uint8)
    found = reference.copy()
    found[0, 0, 0] = 1
    measured = measure(found, reference, reference)
    assert measured.passes(PICTURE)
    case = NetworkCase("upsample", "random", "dynamic", (5, 5), {})
    sides = [Outputs({case.name: array}, {case.name: {"upsample": "a"}}) for array in (found, reference, reference)]
    (made,) = compare("edge", "onnx", [case], candidate=sides[0], reference=sides[1], judge=sides[2])
    assert "1 % of pixels off by 1, 0 % by more" in made.note


def test_an_output_of_another_shape_fails() -> None:
    case = NetworkCase("upsample", "random", "dynamic", (5, 5), {})
    sides = [Outputs({case.name: array}, {case.name: {"upsample": "a"}}) for array in (ARRAY[..., :1], ARRAY, ARRAY)]
    (made,) = compare("edge", "onnx", [case], candidate=sides[0], reference=sides[1], judge=sides[2])
    assert (made.status, made.measured) == ("failed", None)
    assert "can't be compared" in made.note


def test_without_artefacts_nothing_is_run(tmp_path: Path) -> None:
    cases = random_cases(Coverage(dynamic_sizes=((32, 32),), fixed_size=(32, 32)))
    outputs = produce(artefact_opener("onnx", "edge", artifacts=tmp_path, fixed_size=(32, 32)), cases)
    assert outputs.missing.keys() == {case.name for case in cases}
    assert not outputs.arrays
    assert all("deeplens export onnx --variant edge" in each for each in outputs.missing.values())
    full = Outputs({case.name: ARRAY for case in cases}, {case.name: {} for case in cases})
    made = Report(tuple(compare("edge", "onnx", cases, candidate=outputs, reference=full, judge=full)), None, {})
    assert made.counts == {"not run": len(cases)}
    with pytest.raises(MissingError, match="deeplens export onnx"):
        made.check()


def test_a_reference_that_gave_nothing_is_an_error() -> None:
    case = NetworkCase("upsample", "random", "dynamic", (5, 5), {})
    full, empty = Outputs({case.name: ARRAY}, {case.name: {"upsample": "a"}}), Outputs(broken={case.name: "not finite"})
    with pytest.raises(MismatchError, match="no result to compare with"):
        compare("edge", "onnx", [case], candidate=full, reference=empty, judge=full)
    with pytest.raises(MismatchError, match="no result to compare with"):
        compare("edge", "onnx", [case], candidate=full, reference=full, judge=empty)


def test_a_reference_without_weights_is_never_called_passed() -> None:
    """Also where an artefact of some other weights is there and gives something."""
    case = NetworkCase("upsample", "random", "dynamic", (5, 5), {})
    full = Outputs({case.name: ARRAY}, {case.name: {"upsample": "a"}})
    none = Outputs(missing={case.name: "what it runs: no weights"})
    (made,) = compare("edge", "onnx", [case], candidate=full, reference=none, judge=none)
    assert (made.status, made.measured, made.note) == ("not run", None, "not run: needs what it runs: no weights")


@pytest.mark.slow
def test_weights_that_are_not_there(tmp_path: Path) -> None:
    made = run(
        Request(variants=["paper"], runtimes=["onnx"], precisions=["fp32"], artifacts=tmp_path, weights=tmp_path)
    )
    assert [each.status for each in made.rows] == ["not run"]
    assert "not run: needs the reference" in made.rows[0].note


@pytest.mark.parametrize(
    ("variants", "runtimes", "message"),
    [
        (["huge"], ["onnx"], "unknown variant 'huge'"),
        (["edge"], ["abacus"], "unknown runtime 'abacus': choose torch or onnx or "),
    ],
)
def test_unknown_names(variants: list[str], runtimes: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(Request(variants=variants, runtimes=runtimes))
