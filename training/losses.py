"""Losses of the paper."""

from torch import Tensor

ALPHA = 1.5
"""The exponent of equation 5."""


def normalised_loss(prediction: Tensor, target: Tensor, *, alpha: float = ALPHA) -> Tensor:
    """Equation 5: Σ|X − Y|^(α+1) / Σ|X − Y|^α, the L1 error weighed by its own size; over all elements, a scalar.

    It is the absolute error where that is the same everywhere, and leans towards the largest errors elsewhere.
    """
    error = (prediction - target).abs() + 1e-6  # the power's slope must be finite at 0
    weight = error**alpha
    return (weight * error).sum() / weight.sum()
