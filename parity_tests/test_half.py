"""PyTorch with every tensor rounded to FP16: as far from float32 as PyTorch's own half precision."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deeplens.model import build
from deeplens.model.contract import CONTRACTS
from deeplens.parity_tests.cases import plausible_inputs
from deeplens.parity_tests.half import in_half
from deeplens.runtimes.pytorch import TorchRuntime

pytestmark = pytest.mark.slow


def test_it_loses_what_native_half_precision_loses(lively_weights: Path) -> None:
    contract = CONTRACTS["upsample"]
    inputs = plausible_inputs(contract, (32, 40), np.random.default_rng(0))
    output = contract.outputs[0].name
    with TorchRuntime(variant="edge", weights=lively_weights) as single:
        due = single.open("upsample").run(inputs)[output]
    with in_half(TorchRuntime(variant="edge", weights=lively_weights)) as half:
        rounded = half.open("upsample").run(inputs)[output]
    module = build.load("edge", "upsample", lively_weights).half()
    with torch.inference_mode():
        native = module(*(torch.from_numpy(inputs[each.name]).half() for each in contract.inputs)).float().numpy()
    ours, theirs = (float(np.sqrt(np.square(each - due).mean())) for each in (rounded, native))
    assert 0.7 * theirs < ours < 1.4 * theirs
    np.testing.assert_array_equal(rounded, rounded.astype(np.float16))


def test_what_leaves_the_range_overflows(lively_weights: Path) -> None:
    with in_half(TorchRuntime(variant="edge", weights=lively_weights)) as half:
        session = half.open("upsample")
        with torch.no_grad():
            next(session.session.module.parameters()).mul_(1e30)  # type: ignore[attr-defined]
        inputs = plausible_inputs(CONTRACTS["upsample"], (32, 40), np.random.default_rng(0))
        assert not np.isfinite(session.run(inputs)["blurred_high"]).all()
