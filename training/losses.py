"""Losses of the paper."""

from torch import Tensor

ALPHA = 1.5
"""The exponent of equation 5."""


def normalised_loss(prediction: Tensor, target: Tensor, *, alpha: float = ALPHA) -> Tensor:
    """Equation 5: Σ|X − Y|^(α+1) / Σ|X − Y|^α, the L1 error weighed by its own size; over all elements, a scalar.

    It is the absolute error where that is the same everywhere, and leans towards the largest errors elsewhere. The
    weights are constants to the gradient (equation 4 weighs a loss by them): were they not, an error below
    α / (α + 1) of the loss would be rewarded for growing, since it adds more to the denominator.
    """
    error = (prediction - target).abs()
    weight = error.detach() ** alpha + 1e-12  # all-zero errors have a loss of 0, not 0 / 0
    return (weight * error).sum() / weight.sum()
