"""Apple's Core AI on the CPU against PyTorch. Skipped where the extra `coreai` is not installed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from deeplens.console.errors import InputError, MissingError
from deeplens.model import build
from deeplens.model.contract import CONTRACTS, NETWORKS
from deeplens.parity_tests import coreai
from deeplens.parity_tests.cases import plausible_inputs
from deeplens.parity_tests.compare import NETWORK, measure

try:
    coreai.require()
    REASON = ""
except MissingError as error:
    REASON = str(error)

needs_coreai = pytest.mark.skipif(bool(REASON), reason=REASON)


@needs_coreai
@pytest.mark.parametrize("network", NETWORKS)
def test_edge_agrees(network: str, weights: Path) -> None:
    found = coreai.opinion("edge", network, weights=weights)
    assert found.passed, found
    assert found.measured.relative <= 2e-5
    assert found.measured.own > 0.0  # something was computed in float64


@needs_coreai
def test_in_half_precision_it_errs_no_more_than_pytorch(weights: Path) -> None:
    found = coreai.opinion("edge", "upsample", precision="fp16", weights=weights)
    assert found.passed, found
    assert found.measured.own > 1e-4  # the rounding of FP16 shows


@needs_coreai
def test_a_weight_off_by_a_hundredth_and_swapped_inputs_show(tmp_path: Path, weights: Path) -> None:
    import torch

    contract = CONTRACTS["upsample"]
    inputs = plausible_inputs(contract, (32, 40), np.random.default_rng(1))
    module = build.load("edge", "upsample", weights)
    expected = coreai.in_torch(module, inputs, torch.float32)
    judge = coreai.in_torch(module.double(), inputs, torch.float64)
    with torch.no_grad():
        next(module.float().parameters()).mul_(1.01)
    coreai.save(module, inputs, tmp_path / "scaled.aimodel", output="blurred_high")
    scaled = coreai.run(tmp_path / "scaled.aimodel", inputs)["blurred_high"]
    assert not measure(scaled, expected, judge).passes(NETWORK)

    same = coreai.in_torch(module, inputs, torch.float32)
    judge = coreai.in_torch(module.double(), inputs, torch.float64)
    assert measure(scaled, same, judge).passes(NETWORK)
    swapped = {**inputs, "picture": inputs["blurred"], "blurred": inputs["picture"]}
    mixed = coreai.run(tmp_path / "scaled.aimodel", swapped)["blurred_high"]
    assert not measure(mixed, same, judge).passes(NETWORK)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coreai_torch", None)
    with pytest.raises(MissingError, match=r"pip install 'deeplens-edge\[coreai\]'"):
        coreai.opinion("edge", "upsample")


def test_names_that_are_not_known() -> None:
    with pytest.raises(InputError, match="precision"):
        coreai.opinion("edge", "upsample", precision="int4")
