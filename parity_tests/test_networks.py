"""Each network alone: ONNX Runtime against PyTorch, with free sizes and fixed shapes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from deeplens.model.contract import ALIGNMENT, CONTRACTS, MIN_SIZE, NETWORKS, VARIANTS
from deeplens.parity_tests.cases import plausible_inputs
from deeplens.parity_tests.compare import NETWORK, Row, measure
from deeplens.parity_tests.conftest import COVERAGE, Artifacts
from deeplens.parity_tests.report import Report
from deeplens.runtimes.contract import Runtime
from deeplens.runtimes.ort import OnnxRuntime
from deeplens.runtimes.pytorch import TorchRuntime

pytestmark = pytest.mark.slow


@pytest.fixture(params=VARIANTS)
def report(request: pytest.FixtureRequest) -> Report:
    found: Report = request.getfixturevalue(f"{request.param}_report")
    return found


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("inputs", ["random", "photo"])
def test_on_random_and_real_inputs(report: Report, network: str, inputs: str) -> None:
    rows = [row for row in report.rows if (row.what, row.input) == (network, inputs)]
    coverage = COVERAGE[rows[0].variant]
    only = CONTRACTS[network].fixed_size
    dynamic = [] if only else [("dynamic", size) for size in coverage.dynamic_sizes]
    expected = [*dynamic, ("fixed", only or coverage.fixed_size)]
    assert [(row.graph, row.size) for row in rows] == expected
    for row in rows:
        _assert_passes(row)


def _assert_passes(row: Row) -> None:
    assert row.status == "passed", row
    assert row.measured is not None
    assert row.gate.absolute <= NETWORK.absolute
    assert row.gate.relative == NETWORK.relative
    assert row.measured.max_abs <= 1e-5
    assert row.measured.judge <= 1e-5


@pytest.fixture(scope="module", params=VARIANTS)
def pair(request: pytest.FixtureRequest, weights: Path, artifacts: Artifacts) -> Iterator[tuple[Runtime, Runtime]]:
    """PyTorch and ONNX Runtime."""
    variant: str = request.param
    with (
        TorchRuntime(variant=variant, weights=weights) as torch,
        OnnxRuntime(variant=variant, artifacts=artifacts(variant)) as onnx,
    ):
        yield torch, onnx


SIZES = st.integers(MIN_SIZE // ALIGNMENT, 160 // ALIGNMENT).map(lambda count: ALIGNMENT * count)


@pytest.mark.parametrize("network", ["lens_blur", "upsample"])
@given(height=SIZES, width=SIZES, seed=st.integers(0, 2**32 - 1))
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
def test_any_size(pair: tuple[Runtime, Runtime], network: str, height: int, width: int, seed: int) -> None:
    inputs = plausible_inputs(CONTRACTS[network], (height, width), np.random.default_rng(seed))
    name = CONTRACTS[network].outputs[0].name
    expected, found = (runtime.open(network).run(inputs)[name] for runtime in pair)
    measured = measure(found, expected, expected)
    assert measured.passes(NETWORK), (height, width, measured)
