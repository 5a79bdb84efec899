"""The loss of the depth network's fit to outlines: equation 1, with steps of the disparity made to count."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deeplens.training.fit_depth import gradient_loss, mean_where, normalise

STEP = 0.06
"""A label that spans this much or more over 3×3 pixels has a step there."""

NEAR, TIMES = 4, 5.0
"""Pixels within so many of a step count so many times."""

APART, PAIR = 5, 0.1
"""Pixels this far to either side of a pixel make a pair, where their labels differ by this much or more."""

COARSE = 16
"""Side of the blocks of pixels whose mean an anchor holds."""


def steps_of(truth: Tensor) -> Tensor:
    """1 where a map (N, 1, H, W) steps by `STEP` or more between neighbours, else 0."""
    return ((F.max_pool2d(truth, 3, 1, 1) + F.max_pool2d(-truth, 3, 1, 1)) > STEP).to(truth.dtype)


def edge_weights(truth: Tensor, known: Tensor) -> Tensor:
    """`known` (N, 1, H, W), `TIMES` as much within `NEAR` pixels of a step of `truth`."""
    near = F.max_pool2d(steps_of(truth) * known, 2 * NEAR + 1, 1, NEAR)
    return known * (1 + (TIMES - 1) * near)


def weighted_loss(disparity: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Half the mean |D − D_g|, half that of the normalised prediction, pixels near steps counting more."""
    weights = edge_weights(truth, known)
    total = weights.sum().clamp(min=1)
    plain = ((disparity - truth).abs() * weights).sum() / total
    return 0.5 * plain + 0.5 * ((normalise(disparity, known) - truth).abs() * weights).sum() / total


def pair_loss(disparity: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """How much pairs across a step lack of their labels' difference: mean of relu(|t| − sign(t) · d) over all pairs.

    t and d are the differences of the labels and of the prediction `2 · APART` pixels apart, along rows and columns.
    """
    total = torch.zeros((), device=disparity.device)
    for axis in (2, 3):
        last = truth.shape[axis] - 2 * APART

        def apart(maps: Tensor, axis: int = axis, last: int = last) -> Tensor:
            return maps.narrow(axis, 2 * APART, last) - maps.narrow(axis, 0, last)

        both = known.narrow(axis, 2 * APART, last) * known.narrow(axis, 0, last)
        true, predicted = apart(truth), apart(disparity)
        pairs = both * (true.abs() > PAIR)
        total = total + mean_where(F.relu(true.abs() - true.sign() * predicted), pairs)
    return total


def anchor_loss(disparity: Tensor, label: Tensor, known: Tensor) -> Tensor:
    """Mean |difference| of the normalised prediction and a label whose coarse shape alone is known."""
    difference = F.avg_pool2d(normalise(disparity, known), COARSE) - F.avg_pool2d(label, COARSE)
    return mean_where(difference.abs(), F.avg_pool2d(known, COARSE))


def matte_loss(segmentation: Tensor, matte: Tensor, known: Tensor) -> Tensor:
    """Cross entropy of a segmentation and a matte, both in [0, 1]: it asks for a sharp contour where L1 is content."""
    return mean_where(F.binary_cross_entropy(segmentation.clamp(1e-4, 1 - 1e-4), matte, reduction="none"), known)


__all__ = ["anchor_loss", "edge_weights", "gradient_loss", "matte_loss", "pair_loss", "steps_of", "weighted_loss"]
