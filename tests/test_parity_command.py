"""`deeplens parity`: its options, what it writes, and with which status it ends. What it measures: parity_tests/."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.errors import InputError, MismatchError, MissingError
from parity_tests import report as parity_report
from parity_tests.compare import NETWORK, Row, Status, measure
from parity_tests.report import Report
from runtimes import RUNTIMES
from tests.conftest import Command

ARRAY = np.linspace(0, 1, 48).reshape(1, 3, 4, 4)


def row(status: Status) -> Row:
    measured = None if status == "not run" else measure(ARRAY, ARRAY, ARRAY)
    note = "not run: needs a device" if status == "not run" else ""
    return Row("edge", "onnx", "lens_blur", "random", "dynamic", (96, 160), NETWORK, status, note, measured)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the command asks for; the answer has one row that passed and one that was not run."""
    options: dict[str, object] = {}

    def run(**given: object) -> Report:
        options.update(given)
        return Report((row("passed"), row("not run")), None, {"torch": "2"})

    monkeypatch.setattr(parity_report, "run", run)
    return options


def test_options(deeplens: Command, asked: dict[str, object], photo: Path, tmp_path: Path) -> None:
    result = deeplens(
        "parity", "--variant", "edge", "--variant", "paper", "--runtime", "onnx", "--precision", "fp16",
        "--artifacts", tmp_path, "--weights", "initial", "--photo", photo, "--json", tmp_path / "p.json",
        "--markdown", tmp_path / "p.md",
    )  # fmt: skip
    assert result.status == 0, result.err
    del asked["report"]
    assert asked == {
        "variants": ["edge", "paper"],
        "runtimes": ["onnx"],
        "precisions": ["fp16"],
        "artifacts": tmp_path,
        "weights": "initial",
        "photo": photo,
    }
    assert "passed" in result.out
    assert "not run: needs a device" in result.out
    assert json.loads((tmp_path / "p.json").read_text())["ok"] is True
    assert "not run: needs a device" in (tmp_path / "p.md").read_text(encoding="utf-8")


def test_defaults_and_json_on_standard_output(deeplens: Command, asked: dict[str, object]) -> None:
    result = deeplens("parity", "--json", "-")
    assert result.status == 0
    assert json.loads(result.out)["counts"] == {"passed": 1, "not run": 1}
    assert (asked["variants"], asked["precisions"], asked["weights"]) == (["edge"], ["fp32"], "shipped")
    assert asked["runtimes"] == tuple(name for name in RUNTIMES if name != "torch")


@pytest.mark.parametrize(
    ("status", "code"),
    [("failed", MismatchError.exit_code), ("stale", MismatchError.exit_code), ("not run", MissingError.exit_code)],
)
def test_exit_codes_after_the_answer_was_written(
    deeplens: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: Status, code: int
) -> None:
    monkeypatch.setattr(parity_report, "run", lambda **_: Report((row(status),), None, {}))
    out = tmp_path / "p.json"
    result = deeplens("parity", "--json", out)
    assert (result.status, result.error.count("error:")) == (code, 1)
    report = json.loads(out.read_text())
    assert (report["ok"], report["rows"][0]["status"]) == (False, status)


def test_bad_options_end_before_the_work(deeplens: Command, tmp_path: Path) -> None:
    for arguments, code, text in (
        (["--runtime", "abacus"], InputError.exit_code, "abacus"),
        (["--variant", "huge"], InputError.exit_code, "huge"),
        (["--precision", "fp8"], InputError.exit_code, "choose fp32 or fp16"),
        (["--weights", tmp_path / "none"], MissingError.exit_code, "no weights"),
        (["--json", tmp_path / "none" / "p.json"], InputError.exit_code, "none"),
        (["--artifacts", tmp_path, "--weights", tmp_path], MissingError.exit_code, "nothing could be compared"),
    ):
        result = deeplens("parity", *arguments)
        assert (result.status, text in result.error) == (code, True), result.err


def test_without_torch_it_names_the_extra(deeplens_process: Command) -> None:
    result = deeplens_process("parity", without=["torch"])
    assert (result.status, "deeplens[torch]" in result.error) == (MissingError.exit_code, True)
    assert "torch" not in deeplens_process("parity", "--help").loaded
