"""Limits of a depth network of others follow its output's scale and its own rounding; ours keep theirs."""

from dataclasses import replace

import numpy as np
import pytest

from deeplens.parity_tests.compare import NETWORK, measure, narrowed, scaled


def passes(variant: str, off: float, *, spread: float = 400.0, rounding: float = 1e-4) -> bool:
    """Whether a runtime that is off by `off` passes for a network of that spread and rounding of its own."""
    generator = np.random.default_rng(0)
    judge = generator.uniform(0, spread, (1, 1, 32, 32))
    judge[0, 0, 0, :2] = 0, spread
    reference = judge + rounding * generator.choice([-1, 1], judge.shape)
    found = reference + off * generator.choice([-1, 1], judge.shape)
    measured = measure(found, reference, judge)
    gate = narrowed(scaled(NETWORK, variant, "depth", measured, reference), measured, "fp32")
    return measured.passes(gate)


@pytest.mark.parametrize("variant", ["someone", "edge+someone"])
def test_another_scale_is_no_fault(variant: str) -> None:
    assert passes(variant, 1e-4)
    assert passes(variant, 4e-4)
    assert not passes(variant, 1e-2)  # a hundred times its own rounding
    assert not passes(variant, 1e-3, rounding=1e-7)  # far more than numbers of this size round


def test_our_own_limits_stay() -> None:
    assert not passes("edge", 1e-4)
    assert not passes("paper", 2e-5, spread=1.0, rounding=1e-5)
    gate = replace(NETWORK)
    data = np.linspace(0, 400, 64).reshape(1, 1, 8, 8)
    assert scaled(gate, "edge", "depth", measure(data, data, data), data) == gate
    assert scaled(gate, "someone", "upsample", measure(data, data, data), data) == gate
