"""Losses of the paper, and those that it compares them with."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""(prediction, target), of one shape → a scalar."""

ALPHA = 1.5
"""The exponent of equation 5."""


def normalised_loss(
    prediction: Tensor, target: Tensor, *, alpha: float = ALPHA, constant_weights: bool = True
) -> Tensor:
    """Equation 5: Σ|X − Y|^(α+1) / Σ|X − Y|^α, the L1 error weighed by its own size; over all elements, a scalar.

    It is the absolute error where that is the same everywhere, and leans towards the largest errors elsewhere. The
    weights are constants to the gradient (equation 4 weighs a loss by them): were they not, an error below
    α / (α + 1) of the loss would be rewarded for growing, since it adds more to the denominator. `constant_weights` =
    False does that, for the ablation.
    """
    error = (prediction - target).abs()
    weight = (error.detach() if constant_weights else error) ** alpha + 1e-12  # no error: a loss of 0, not 0 / 0
    return (weight * error).sum() / weight.sum()


LOSSES: dict[str, Loss] = {
    "normalised": normalised_loss,
    "quotient": partial(normalised_loss, constant_weights=False),
    "l1": F.l1_loss,
    "l2": F.mse_loss,
}
"""By name: equation 5 with constant weights, the same differentiated as it is written, and plain means."""
