"""The golden vectors of a release: small, made by a rule, right on every runtime, and closed to a wrong one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from deeplens.console.errors import MismatchError
from deeplens.export import golden
from deeplens.export.golden_inputs import Bytes, golden_inputs
from deeplens.export.onnx_graph import export_module
from deeplens.model.contract import CONTRACTS, NETWORKS
from deeplens.parity_tests.candidates import Candidate
from deeplens.parity_tests.lively import lively
from deeplens.parity_tests.release import check, make

pytestmark = pytest.mark.slow

ONNX = Candidate("onnx", "fp32")


@pytest.fixture(scope="module")
def vectors(lively_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    make(folder, variants=["edge"], weights=lively_weights, report=lambda _: None)
    return folder


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artefacts of the step alone."""
    folder = tmp_path_factory.mktemp("artifacts")
    export_module(lively("edge", "upsample"), variant="edge", network="upsample", out=folder)
    return folder


def test_both_variants_fit_into_two_megabytes(vectors: Path) -> None:
    assert 2 * sum(path.stat().st_size for path in vectors.iterdir()) < 2e6
    assert {path.suffix for path in vectors.iterdir()} == {".json", ".f32"}


def test_runtimes_agree_and_what_has_no_artefact_is_not_run(vectors: Path, step: Path, lively_weights: Path) -> None:
    found = {each.vectors: each for each in check(vectors, ONNX, artifacts=step)}
    assert found["edge_upsample_64x64"].status == "passed", found
    assert found["edge_upsample_64x64"].largest > 0  # type: ignore[operator]
    assert {each.status for name, each in found.items() if "upsample" not in name} == {"not run"}
    torch = check(vectors, Candidate("torch", "fp32"), artifacts=None, weights=lively_weights)
    assert {each.status for each in torch} == {"passed"}


def test_another_graph_or_other_weights_fail(vectors: Path, step: Path, tmp_path: Path) -> None:
    folder = tmp_path / "altered"
    shutil.copytree(vectors, folder)
    path = folder / "edge_upsample_64x64.json"
    text = json.loads(path.read_text())
    array = folder / text["outputs"][0]["file"]
    values = np.frombuffer(array.read_bytes(), "<f4") + np.float32(1e-3)
    array.write_bytes(values.tobytes())
    with pytest.raises(MismatchError, match="has changed"):
        golden.read(path)
    text["outputs"][0]["sha256"] = golden.array_sha256(values)
    path.write_text(json.dumps(text))
    assert "failed" in {each.status for each in check(folder, ONNX, artifacts=step)}
    text["weights_sha256"] = "0" * 64
    path.write_text(json.dumps(text))
    (other,) = (each for each in check(folder, ONNX, artifacts=step) if each.status == "failed")
    assert "other weights" in other.note or "comes from weights" in other.note


def test_the_stream_is_the_one_that_is_described() -> None:
    x, expected = 2018, []
    for _ in range(1000):
        x = (1664525 * x + 1013904223) % 2**32
        expected.append(x >> 24)
    stream = Bytes()
    found = np.concatenate([stream.draw(1), stream.draw(7, 9), stream.draw(936)], axis=None)
    assert found.tolist() == expected
    assert len(set(expected)) > 200


@pytest.mark.parametrize("network", NETWORKS)
def test_inputs_are_in_the_contracts_ranges(network: str) -> None:
    contract = CONTRACTS[network]
    size = contract.fixed_size or (32, 40)
    found = golden_inputs(contract, size)
    for tensor in contract.inputs:
        array = found[tensor.name]
        assert array.shape == tensor.shape(*size)
        assert array.dtype == np.float32
        assert tensor.low is not None
        assert tensor.high is not None
        assert tensor.low <= array.min() < array.max() <= tensor.high
        assert np.array_equal(array, (np.rint(array.astype(np.float64) * 255) / 255).astype(np.float32))
