"""What the model's own rounding in FP16 is, and which agreement it asks of a runtime."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from deeplens.export.golden import agreement
from deeplens.export.own_rounding import FACTORS, FLOORS, in_fp16, least_agreement
from deeplens.parity_tests import compare

ROWS = np.linspace(-1, 1, 3 * 8 * 8, dtype=np.float32).reshape(1, 3, 8, 8)


def test_limits_are_a_multiple_of_the_models_own_error_above_the_floor() -> None:
    assert least_agreement(70.0) == pytest.approx({"fp16": 70 - 6.0206, "fp16 sums": 70 - 15.563}, abs=1e-3)
    assert least_agreement(45.0) == FLOORS
    assert least_agreement(math.inf) == least_agreement(math.nan) == FLOORS
    assert {name: compare.FACTORS[name].mean for name in FACTORS} == FACTORS, "parity's table means the same"


def test_twice_the_error_is_6_dB() -> None:  # noqa: N802
    expected = ROWS.copy()
    once, twice = (agreement(expected + np.float32(step), expected) for step in (0.01, 0.02))
    assert once - twice == pytest.approx(20 * math.log10(FACTORS["fp16"]), abs=1e-3)


def test_every_result_is_rounded_and_the_module_stays() -> None:
    torch.manual_seed(0)
    net = nn.Conv2d(3, 4, 3, padding=1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.inference_mode():
        expected = net(torch.from_numpy(ROWS)).numpy()
    found = in_fp16(net, {"x": ROWS})
    assert 0 < np.abs(found - expected).max() < 2e-3
    assert (found == found.astype(np.float16)).all()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
