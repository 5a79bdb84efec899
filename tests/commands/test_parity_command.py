"""`deeplens parity`: its options, what it writes, and with which status it ends. What it measures: parity_tests/."""

import json
from pathlib import Path

import numpy as np
import pytest

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.parity_tests import run as running
from deeplens.parity_tests.candidates import COMPARED, candidates
from deeplens.parity_tests.collection import write
from deeplens.parity_tests.compare import GATES, NETWORK, Row, Status, measure
from deeplens.parity_tests.report import Report
from deeplens.parity_tests.request import Request
from deeplens.parity_tests.test_collection import collected, produced
from tests.conftest import Command
from tests.support.device import needs, needs_torch

ARRAY = np.linspace(0, 1, 48).reshape(1, 3, 4, 4)


def row(status: Status) -> Row:
    measured = None if status == "not run" else measure(ARRAY, ARRAY, ARRAY)
    note = "not run: needs a device" if status == "not run" else ""
    return Row("edge", "onnx", "lens_blur", "random", "dynamic", (96, 160), NETWORK, status, note, measured)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the command asks for; the answer has one row that passed and one that was not run."""
    options: dict[str, object] = {}

    def run(request: Request) -> Report:
        options.update(vars(request))
        return Report((row("passed"), row("not run")), None, {"torch": "2"})

    monkeypatch.setattr(running, "run", run)
    return options


def test_options(deeplens: Command, asked: dict[str, object], photo: Path, tmp_path: Path) -> None:
    result = deeplens(
        "parity", "--variant", "edge", "--variant", "paper", "--runtime", "onnx", "--precision", "fp16",
        "--provider", "openvino", "--device", "cpu",
        "--artifacts", tmp_path, "--weights", "initial", "--photo", photo, "--json", tmp_path / "p.json",
        "--markdown", tmp_path / "p.md",
    )  # fmt: skip
    assert result.status == 0, result.err
    del asked["report"]
    assert asked == {
        "variants": ["edge", "paper"],
        "runtimes": ["onnx"],
        "whole": [],
        "with_depth": False,
        "precisions": ["fp16"],
        "providers": ["openvino"],
        "devices": ["cpu"],
        "artifacts": tmp_path,
        "weights": "initial",
        "photo": photo,
        "size": None,
        "coverage": None,
        "compiles": False,
    }
    assert "passed" in result.out
    assert "not run: needs a device" in result.out
    assert json.loads((tmp_path / "p.json").read_text())["ok"] is True
    assert "not run: needs a device" in (tmp_path / "p.md").read_text(encoding="utf-8")


def test_defaults_and_json_on_standard_output(deeplens: Command, asked: dict[str, object]) -> None:
    result = deeplens("parity", "--json", "-")
    assert result.status == 0
    assert json.loads(result.out)["counts"] == {"passed": 1, "not run": 1}
    assert (asked["variants"], asked["precisions"], asked["weights"]) == (["edge"], None, "shipped")
    assert (asked["runtimes"], asked["compiles"]) == (COMPARED, True)


@pytest.mark.parametrize(
    ("status", "code"),
    [("failed", MismatchError.exit_code), ("stale", MismatchError.exit_code), ("not run", MissingError.exit_code)],
)
def test_exit_codes_after_the_answer_was_written(
    deeplens: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: Status, code: int
) -> None:
    monkeypatch.setattr(running, "run", lambda _: Report((row(status),), None, {}))
    out = tmp_path / "p.json"
    result = deeplens("parity", "--json", out)
    assert (result.status, result.error.count("error:")) == (code, 1)
    report = json.loads(out.read_text())
    assert (report["ok"], report["rows"][0]["status"]) == (False, status)


def test_bad_options_end_before_the_work(deeplens: Command, tmp_path: Path) -> None:
    for arguments, code, text in (
        (["--runtime", "abacus"], InputError.exit_code, "abacus"),
        (["--variant", "huge"], InputError.exit_code, "huge"),
        (["--precision", "fp8"], InputError.exit_code, "choose fp32 or fp16 or bf16 or int8"),
        (["--weights", tmp_path / "none"], MissingError.exit_code, "no weights"),
        (["--json", tmp_path / "none" / "p.json"], InputError.exit_code, "none"),
        (["--artifacts", tmp_path, "--weights", tmp_path], MissingError.exit_code, "nothing could be compared"),
    ):
        result = deeplens("parity", *arguments)
        assert (result.status, text in result.error) == (code, True), result.err


def test_without_torch_it_names_the_extra(deeplens_process: Command) -> None:
    result = deeplens_process("parity", without=["torch"])
    assert (result.status, "deeplens-edge[torch]" in result.error) == (MissingError.exit_code, True)
    assert "torch" not in deeplens_process("parity", "--help").loaded


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What a machine with PyTorch collected."""
    write(tmp_path / "home", collected(produced("reference"), produced("judge"), produced("half", off=1e-3)))
    return tmp_path / "home"


def test_a_device_collects_without_torch(deeplens_process: Command, home: Path, artifacts: Path) -> None:
    """The inputs come from the machine with PyTorch; here only NumPy and ONNX Runtime are needed."""
    without = ["torch", "onnx", "scipy", "matplotlib"]
    arguments = ["--runtime", "onnx", "--precision", "fp32", "--artifacts", artifacts]
    result = deeplens_process("parity", "--collect", "device", "--inputs", home, *arguments, without=without)
    assert result.status == 0, result.err
    assert "1 of 1 runs gave results" in result.out
    again = deeplens_process("parity", "--compare", home, "--compare", "device", without=without)
    assert (again.status, "has weights 000000000000…" in again.error) == (MismatchError.exit_code, True)


@needs("matplotlib")
def test_every_form_of_the_report(deeplens: Command, home: Path, tmp_path: Path) -> None:
    write(tmp_path / "device", collected(produced(off=1e-7)))
    files = {name: tmp_path / f"parity.{name}" for name in ("markdown", "junit", "html", "plot", "json")}
    options = [each for name, path in files.items() for each in (f"--{name}", path)]
    result = deeplens("parity", "--compare", home, "--compare", tmp_path / "device", *options)
    assert result.status == 0, result.err
    assert all(path.stat().st_size > 500 for path in files.values())
    assert json.loads(files["json"].read_text())["counts"] == {"passed": 3}


def test_options_that_do_not_go_together(deeplens: Command, tmp_path: Path) -> None:
    for arguments in (["--compare", tmp_path, "--collect", tmp_path], ["--inputs", tmp_path]):
        result = deeplens("parity", *arguments)
        assert (result.status, "--co" in result.error) == (InputError.exit_code, True)


@pytest.mark.slow
@needs_torch
def test_golden_vectors_are_made_and_checked(deeplens: Command, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from deeplens.export.onnx_graph import export_module
    from deeplens.parity_tests.lively import lively

    weights = tmp_path / "weights"
    weights.mkdir()
    module = lively("edge", "upsample")
    save_file(module.state_dict(), weights / "edge_upsample.safetensors")
    export_module(module, variant="edge", network="upsample", out=tmp_path)
    made = deeplens("golden", "--variant", "edge", "--weights", weights, "--out", tmp_path / "g", "--json", "-")
    assert made.status == 0, made.err
    assert json.loads(made.out)["files"] == ["edge_upsample_64x64.json"]
    options = ["--runtime", "onnx", "--precision", "fp32", "--artifacts", tmp_path]
    assert deeplens("golden", "--check", tmp_path / "g", *options).status == 0
    for arguments, text in ((["--check", tmp_path / "g", *options[:4], "--artifacts", weights], "no runtime could be"),
                            (["--check", weights, *options], "no golden vectors")):  # fmt: skip
        result = deeplens("golden", *arguments)
        assert (result.status, text in result.error) == (MissingError.exit_code, True)


def test_providers_and_devices_have_rows_of_their_own() -> None:
    found = candidates(("torch", "onnx"), None, providers=("cpu", "openvino"), devices=("cpu", "cuda"))
    assert [each.label for each in found] == [
        "torch.export", "torch on cpu fp16", "torch on cpu bf16", "torch on cuda fp32", "torch on cuda fp16",
        "torch on cuda bf16", "onnx fp32", "onnx fp16", "onnx int8", "onnx on openvino fp32", "onnx on openvino fp16",
        "onnx on openvino int8",
    ]  # fmt: skip
    assert {each.rounding for each in found} == {"fp32", "fp16", "fp16 sums", "bf16", "int8"}
    with pytest.raises(InputError, match="unknown provider 'abacus'"):
        candidates(("onnx",), None, providers=("abacus",))


def test_openvino_has_rows_in_each_precision_and_a_gate_for_its_bf16() -> None:
    found = candidates(("openvino",), None)
    assert [(each.label, each.stored, each.graphs, each.rounding) for each in found] == [
        ("openvino fp32", "fp32", "onnx-openvino", "fp32"),
        ("openvino bf16", "fp32", "onnx-openvino", "bf16 products"),
        ("openvino int8", "int8", "onnx-openvino", "int8"),
        ("openvino mixed", "int8", "onnx-openvino", "mixed"),
    ]
    everything = candidates(COMPARED, None, providers=("openvino",), devices=("cpu",))
    assert {each.rounding for each in everything} == set(GATES)


def test_a_provider_runs_graphs_of_its_form() -> None:
    """Other forms than the CPU's are written in FP32 only."""
    found = [each for each in candidates(("onnx",), None, providers=("webgpu", "cuda")) if each.place]
    assert [(each.place, each.precision, each.graphs) for each in found] == [
        ("webgpu", "fp32", "onnx-webgpu"),
        *(("cuda", precision, "onnx") for precision in ("fp32", "fp16", "int8")),
    ]
