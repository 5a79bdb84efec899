"""Equation 5 against float64 NumPy, and its limits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens.training.losses import LOSSES, normalised_loss


def by_hand(prediction: np.ndarray, target: np.ndarray, alpha: float) -> float:
    error = np.abs(prediction.astype(np.float64) - target)
    return float((error ** (alpha + 1)).sum() / (error**alpha).sum())


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), alpha=st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0]))
def test_equation_5(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    prediction, target = rng.random((2, 3, 7, 9)).astype(np.float32)
    found = normalised_loss(torch.from_numpy(prediction), torch.from_numpy(target), alpha=alpha)
    assert found.item() == pytest.approx(by_hand(prediction, target, alpha), rel=1e-4)


def test_the_paper_s_exponent_is_the_default() -> None:
    prediction, target = torch.tensor([0.0, 0.0]), torch.tensor([0.1, 0.4])
    expected = (0.1**2.5 + 0.4**2.5) / (0.1**1.5 + 0.4**1.5)
    assert normalised_loss(prediction, target).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("error", [0.0, 0.01, 0.3, 1.0])
def test_equal_errors_give_that_error(error: float) -> None:
    target = torch.rand(2, 3, 8, 8)
    sign = torch.where(torch.rand_like(target) < 0.5, -1.0, 1.0)
    assert normalised_loss(target + sign * error, target).item() == pytest.approx(error, abs=2e-6)


def test_it_leans_to_the_largest_error() -> None:
    prediction = torch.zeros(100)
    prediction[0] = 0.5
    prediction[1:] = 0.01
    found = normalised_loss(prediction, torch.zeros(100)).item()
    assert prediction.mean() < found < prediction.max()
    assert found > 0.35


def test_the_gradient_lets_no_error_grow() -> None:
    """Each error is pulled down in proportion to its weight; the quotient as written would push the small ones up."""
    error = torch.tensor([0.1, -0.5, 1.0], requires_grad=True)
    normalised_loss(error, torch.zeros(3)).backward()
    weights = np.array([0.1, 0.5, 1.0]) ** 1.5
    assert error.grad is not None
    np.testing.assert_allclose(error.grad, weights / weights.sum() * (1, -1, 1), rtol=1e-5)
    as_written = torch.tensor([0.1, -0.5, 1.0], requires_grad=True)
    ((as_written.abs() ** 2.5).sum() / (as_written.abs() ** 1.5).sum()).backward()
    assert as_written.grad is not None
    assert as_written.grad[0] < 0


@pytest.mark.parametrize("wrong", [0, 1])
def test_the_gradient_is_finite_where_the_error_is_zero(wrong: int) -> None:
    """With no error at all, and with one element wrong; as written the quotient's slope is 0 / 0."""
    prediction = torch.rand(1, 3, 4, 4)
    target = prediction.clone()
    target.view(-1)[:wrong] += 0.5
    prediction.requires_grad_(True)
    normalised_loss(prediction, target).backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()
    naive = torch.zeros(3, requires_grad=True)
    error = naive.abs()
    ((error**2.5).sum() / (error**1.5).sum()).backward()
    assert naive.grad is not None
    assert naive.grad.isnan().any()


@pytest.mark.parametrize(("name", "expected"), [("l1", 0.25), ("l2", (0.01 + 0.16) / 2)])
def test_plain_losses(name: str, expected: float) -> None:
    assert LOSSES[name](torch.tensor([0.0, 1.0]), torch.tensor([0.1, 0.6])).item() == pytest.approx(expected)


def test_the_quotient_has_the_value_of_equation_5_and_its_own_slope() -> None:
    error = torch.tensor([0.1, -0.5, 1.0], dtype=torch.float64, requires_grad=True)
    target = torch.zeros(3, dtype=torch.float64)
    assert LOSSES["quotient"](error, target).item() == pytest.approx(LOSSES["normalised"](error, target).item())
    exact, control = (
        torch.autograd.gradcheck(lambda x, loss=LOSSES[name]: loss(x, target), error, raise_exception=False)
        for name in ("quotient", "normalised")
    )
    assert exact
    assert not control
