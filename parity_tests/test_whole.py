"""Graphs of the whole effect in the table: their rows are the harness's, and a fault in one is seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from deeplens.console.files import file_sha256
from deeplens.export import whole_onnx
from deeplens.export.whole_sizes import Wanted
from deeplens.model.whole_contract import WHOLE, WHOLE_WITH_DEPTH
from deeplens.parity_tests.candidates import Candidate
from deeplens.parity_tests.cases import Case, Coverage, made_depth
from deeplens.parity_tests.compare import LEVEL, Row, compare
from deeplens.parity_tests.outputs import Outputs
from deeplens.parity_tests.produce import produce, torch_opener
from deeplens.parity_tests.whole import whole_cases
from deeplens.runtimes import manifest
from tests.support.tiny import textured

pytestmark = pytest.mark.slow

SIZE = (48, 64)
COVERAGE = Coverage()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    whole_onnx.export(Wanted(variant="edge", network=WHOLE, size=SIZE), out=folder)
    return folder


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    opener = torch_opener("edge", weights="shipped", fixed_size=(64, 64))
    with opener("dynamic") as torch:
        return whole_cases(COVERAGE, torch, textured(90, 120, seed=1), [SIZE], with_depth=False, given=made_depth())


@pytest.fixture(scope="module")
def sides(cases: list[Case]) -> tuple[Outputs, Outputs]:
    """PyTorch in float32 and in float64, in the harness."""
    float32, float64 = (
        produce(torch_opener("edge", weights="shipped", fixed_size=(64, 64), dtype=kind), cases)
        for kind in ("float32", "float64")
    )
    return float32, float64


def rows(candidate: Candidate, folder: Path, cases: list[Case], sides: tuple[Outputs, Outputs]) -> list[Row]:
    opener = candidate.opener("edge", artifacts=folder, weights="shipped", fixed_size=(64, 64))
    found = produce(opener, candidate.chosen(cases))
    return compare("edge", candidate.label, cases, candidate=found, reference=sides[0], judge=sides[1])


@pytest.mark.parametrize("runtime", ["torch", "onnx", "openvino"])
def test_each_way_to_run_it_is_within_the_bound_of_a_loop(
    runtime: str, folder: Path, cases: list[Case], sides: tuple[Outputs, Outputs]
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    (row,) = rows(Candidate(runtime, "fp32"), folder, cases, sides)
    assert (row.what, row.input, row.size, row.status) == (WHOLE, "photo", SIZE, "passed")
    assert row.measured is not None
    assert row.gate.absolute <= LEVEL.absolute
    assert row.measured.max_abs <= 5e-5


def test_a_wrong_weight_and_other_weights_are_seen(
    folder: Path, cases: list[Case], sides: tuple[Outputs, Outputs], tmp_path: Path
) -> None:
    (entry,) = manifest.read(folder)
    model = onnx.load(folder / entry.path)
    (disc,) = [each for each in model.graph.initializer if each.name == "lens_blur.mix.1.weight"]
    disc.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(disc) * np.float32(1.05), disc.name))
    (tmp_path / "onnx").mkdir()
    onnx.save(model, tmp_path / entry.path)
    manifest.add(tmp_path, replace(entry, sha256=file_sha256(tmp_path / entry.path)))
    (row,) = rows(Candidate("onnx", "fp32"), tmp_path, cases, sides)
    assert row.status == "failed"
    manifest.add(tmp_path, replace(entry, sha256=file_sha256(tmp_path / entry.path), weights_sha256="0" * 64))
    (row,) = rows(Candidate("onnx", "fp32"), tmp_path, cases, sides)
    assert row.status == "stale"


def test_a_graph_that_is_not_there_is_not_run(
    cases: list[Case], sides: tuple[Outputs, Outputs], tmp_path: Path
) -> None:
    (row,) = rows(Candidate("onnx", "fp32"), tmp_path, cases, sides)
    assert row.status == "not run"
    assert "deeplens export onnx --variant edge --whole 64x48" in row.note


def test_with_depth_there_are_two_graphs_of_each_size() -> None:
    opener = torch_opener("edge", weights="shipped", fixed_size=(64, 64))
    with opener("dynamic") as torch:
        found = whole_cases(COVERAGE, torch, textured(90, 120, seed=1), [SIZE, (64, 48)], with_depth=True)
    assert [(each.networks, each.size) for each in found] == [
        ((network,), size) for size in (SIZE, (64, 48)) for network in (WHOLE, WHOLE_WITH_DEPTH)
    ]
