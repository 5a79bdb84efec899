"""Negative controls: faults that are planted in a runtime, each of which the gates of the real checks must catch."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from deeplens.console.errors import MismatchError
from deeplens.export.onnx_graph import export_module
from deeplens.model import build
from deeplens.model.contract import CONTRACTS, NETWORKS, VARIANTS
from deeplens.parity_tests.cases import NetworkCase, random_cases
from deeplens.parity_tests.compare import NETWORK, Row, compare, measure
from deeplens.parity_tests.conftest import SMALL, Compared
from deeplens.parity_tests.lively import lively
from deeplens.parity_tests.outputs import Outputs
from deeplens.parity_tests.produce import Opener, artefact_opener, produce, torch_opener
from deeplens.parity_tests.report import Report
from deeplens.runtimes import manifest
from deeplens.runtimes.contract import Arrays, Session
from deeplens.runtimes.wrapped import WrappedRuntime, WrappedSession

pytestmark = pytest.mark.slow

Small = Callable[[str], Compared]
Change = Callable[[Session, Mapping[str, np.ndarray]], Arrays]


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def judged(small: Compared, opener: Opener) -> list[Row]:
    """Rows of a PyTorch with a fault against one without."""
    outputs = produce(opener, small.cases)
    return compare("v", "r", small.cases, candidate=outputs, reference=small.reference, judge=small.judge)


def changed(opener: Opener, network: str, change: Change) -> Opener:
    """A runtime whose sessions of one network run as `change` says."""

    def wrap(name: str, session: Session) -> Session:
        if name != network:
            return session
        return WrappedSession(session, lambda inputs: change(session, inputs), session.describe())

    return lambda graph: WrappedRuntime(opener(graph), wrap)


def caught(rows: list[Row]) -> set[tuple[str, str]]:
    """(what, input) of the rows that failed."""
    return {(row.what, row.input) for row in rows if row.status == "failed"}


def test_without_a_fault_all_pass_and_equal_kernels_are_named(variant: str, small: Small, lively_weights: Path) -> None:
    opener = torch_opener(variant, weights=lively_weights, fixed_size=SMALL.fixed_size)
    rows = judged(small(variant), opener)
    assert len(rows) == 14 - 4 + 4  # two dynamic sizes less than by default, one loop with one step
    assert {row.status for row in rows} == {"passed"}
    for row in rows:
        assert row.measured is not None
        assert row.measured.max_abs == 0.0
        assert "not arithmetic" in row.note


def test_swapped_inputs_of_the_step(variant: str, small: Small, lively_weights: Path) -> None:
    def swap(session: Session, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return session.run({**inputs, "picture": inputs["blurred"], "blurred": inputs["picture"]})

    opener = torch_opener(variant, weights=lively_weights, fixed_size=SMALL.fixed_size)
    found = caught(judged(small(variant), changed(opener, "upsample", swap)))
    assert found == {("upsample", "random"), ("upsample", "photo"), ("level 1", "loop"), ("8-bit picture", "loop")}


def test_another_resize_mode(variant: str, small: Small, lively_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = small(variant)
    interpolate = F.interpolate

    def corners(x: torch.Tensor, **options: object) -> torch.Tensor:
        return interpolate(x, **{**options, "align_corners": True})  # type: ignore[arg-type]

    monkeypatch.setattr(F, "interpolate", corners)
    opener = torch_opener(variant, weights=lively_weights, fixed_size=SMALL.fixed_size)
    rows = judged(expected, opener)
    assert {row.status for row in rows} == {"failed"}


def test_a_level_skipped(variant: str, small: Small, lively_weights: Path) -> None:
    def skip(_session: Session, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return {"blurred_high": inputs["blurred"].repeat(2, axis=2).repeat(2, axis=3)}

    opener = torch_opener(variant, weights=lively_weights, fixed_size=SMALL.fixed_size)
    found = caught(judged(small(variant), changed(opener, "upsample", skip)))
    assert found >= {("level 1", "loop"), ("8-bit picture", "loop")}
    assert ("level 0", "loop") not in found


@pytest.mark.parametrize("network", NETWORKS)
def test_one_weight_off_by_a_thousandth(variant: str, network: str) -> None:
    """Any weight: all of them, but every twelfth of the depth networks."""
    case = next(case for case in random_cases(SMALL) if isinstance(case, NetworkCase) and case.network == network)
    module = lively(variant, network)
    inputs = [torch.from_numpy(case.inputs[tensor.name]) for tensor in CONTRACTS[network].inputs]

    def output() -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = module(*inputs).numpy()
        return found

    expected = output()
    tensors = [
        (name, tensor)
        for name, tensor in module.named_parameters()
        if tensor.ndim == 4 and not name.startswith("segmentation_head.")
    ]
    for name, tensor in tensors[:: 12 if network == "depth" else 1]:
        before = tensor.detach().clone()
        with torch.no_grad():
            if name.startswith("disc"):  # has no scale, its sum is made 1: half of it is off, by a hundredth
                tensor[..., ::2] *= 1.01
            else:
                tensor.mul_(1.001)
        assert not measure(output(), expected, expected).passes(NETWORK), name
        with torch.no_grad():
            tensor.copy_(before)
    assert measure(output(), expected, expected).max_abs == 0.0


def test_nan_weights_fail_clearly(small: Small, lively_weights: Path, tmp_path: Path) -> None:
    for network in NETWORKS:
        state = load_file(lively_weights / f"edge_{network}.safetensors")
        if network == "lens_blur":
            next(iter(state.values())).fill_(torch.nan)
        save_file(state, tmp_path / f"edge_{network}.safetensors")
    expected = small("edge")
    outputs = produce(torch_opener("edge", weights=tmp_path, fixed_size=SMALL.fixed_size), expected.cases)
    outputs.weights |= expected.reference.weights  # as if the artefact claimed to be made from the right ones
    rows = compare("edge", "r", expected.cases, candidate=outputs, reference=expected.reference, judge=expected.judge)
    assert caught(rows) == {("lens_blur", "random"), ("lens_blur", "photo"), ("all levels", "loop")}
    (loop,) = (row for row in rows if row.input == "loop")
    assert "not finite" in loop.note


def test_an_artefact_of_other_weights_is_stale_before_numbers_are_compared(small: Small, tmp_path: Path) -> None:
    module = lively("edge", "upsample")
    with torch.no_grad():
        next(module.parameters()).mul_(1.001)
    entry = export_module(module, variant="edge", network="upsample", out=tmp_path)
    expected = small("edge")
    cases = [case for case in expected.cases if case.networks == ("upsample",) and case.graph == "dynamic"]
    assert len(cases) == 2
    outputs = produce(artefact_opener("onnx", "edge", artifacts=tmp_path, fixed_size=SMALL.fixed_size), cases)
    poisoned = Outputs(weights=outputs.weights)  # without arrays: whoever compared numbers would fail
    rows = compare("edge", "onnx", cases, candidate=poisoned, reference=expected.reference, judge=expected.judge)
    for row in rows:
        assert (row.status, row.measured) == ("stale", None)
        assert entry.weights_sha256[:12] in row.note
        assert build.weights_sha256(lively("edge", "upsample"))[:12] in row.note
    with pytest.raises(MismatchError, match="export it again"):
        Report(tuple(rows), None, {}).check()

    # If the manifest lied, the numbers would still tell.
    outputs.weights |= expected.reference.weights
    rows = compare("edge", "onnx", cases, candidate=outputs, reference=expected.reference, judge=expected.judge)
    assert [row.status for row in rows] == ["failed", "failed"]
    assert manifest.read(tmp_path) == [entry]
