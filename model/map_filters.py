"""Filters of a disparity map, without weights: steps are made steep, and put where the photo has its edges.

Both keep the size, (N, 1, H, W), and pass gradients: a network can be trained through them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from deeplens.model.layers import upsample_2x

STEEP_REACH = 3
"""How far `steepened` looks to each side, in pixels."""

STEEP_SLOPES = (8.0, 16.0)
"""Twice how much steeper the middle of a ramp becomes: before the map is aligned, and afterwards."""

STEEP_SPAN = (0.05, 0.15)
"""Up to the first difference in disparity within reach nothing is steepened, from the second on all of it."""

COLOUR = 3.0
"""How much more differences of colours count in the guide than differences of brightness."""

GUIDE_REACH = 2
"""Half a window of `aligned`, in pixels of half the size: 5×5 of them."""

GUIDE_RANGE = 3
"""How far around, in pixels of half the size, the nearest and the farthest disparity are the bounds of the result."""

GUIDE_HALVINGS = 4
"""So often the guide of half the size is halved and doubled again to give the means that are taken off it."""

GUIDE_EVEN = 5e-4
"""A window whose guide varies by less than this (sum of the channels' variances) counts as even."""


def sharpened(disparity: Tensor, picture: Tensor) -> Tensor:
    """A map (N, 1, H, W) whose steps are steep and lie on the edges of the picture (N, 3, H, W), RGB in [0, 1].

    `steepened`, `aligned`, and steeper once more. H and W are multiples of 2^(1 + `GUIDE_HALVINGS`).
    """
    first, last = STEEP_SLOPES
    return steepened(aligned(steepened(disparity, first), picture), last)


def steepened(disparity: Tensor, slope: float) -> Tensor:
    """A map (N, 1, H, W) whose steps of up to seven pixels are less wide: a shock filter.

    Each pixel moves to the nearest or to the farthest disparity within `STEEP_REACH` pixels, whichever is closer, as in
    Osher and Rudin, "Feature-oriented image enhancement using shock filters" (1990). A sigmoid instead of their sign
    keeps it smooth, so that rounding can't flip a pixel. An outline stays where the ramp crosses its middle. On an even
    slope a pixel lies halfway between nearest and farthest and keeps its value.
    """
    side = 2 * STEEP_REACH + 1
    near = F.max_pool2d(disparity, side, 1, STEEP_REACH)
    far = -F.max_pool2d(-disparity, side, 1, STEEP_REACH)
    span = near - far
    least, most = STEEP_SPAN
    steep = far + span * torch.sigmoid(slope * (2 * (disparity - far) / span.clamp(min=least) - 1))
    return disparity + ((span - least) / (most - least)).clamp(0, 1) * (steep - disparity)


def aligned(disparity: Tensor, picture: Tensor) -> Tensor:
    """A map (N, 1, H, W) whose steps lie on the edges of the picture (N, 3, H, W): a fast guided filter.

    In each window the map is fitted as a · guide + b, so that it steps where the guide does; a and b are then averaged
    over the windows that a pixel lies in: He, Sun and Tang, "Guided image filtering" (2013), equations 14 to 16. They
    are found at half the size, as in He and Sun, "Fast guided filter" (2015). The guide is brightness and two
    differences of colours, less the means of large blocks, which keeps small what is squared.

    Instead of the inverse of the channels' 3×3 covariance there is one division by the sum of their variances. FP16 can
    bear that, and where a window holds two colours it is the same. Where a colour is beyond both, a line through them
    would reach beyond both sides of a step: the result is kept within the disparities around.

    Args:
        picture: RGB in [0, 1]. H and W are multiples of 2^(1 + `GUIDE_HALVINGS`).
    """
    red, green, blue = picture.split(1, 1)
    guide = torch.cat((0.25 * (red + blue) + 0.5 * green, COLOUR * (red - green), COLOUR * (blue - green)), 1)
    half, low = F.avg_pool2d(guide, 2), F.avg_pool2d(disparity, 2)
    mean = half
    for _ in range(GUIDE_HALVINGS):
        mean = F.avg_pool2d(mean, 2)
    for _ in range(GUIDE_HALVINGS):
        mean = upsample_2x(mean)
    guide, half = guide - upsample_2x(mean), half - mean
    joined = _box(torch.cat((half, low, _summed(half * half), half * low), 1))
    half_mean, low_mean, square_mean, product_mean = joined.split((3, 1, 1, 3), 1)
    variance = (square_mean - _summed(half_mean * half_mean)).clamp(min=0)
    a = (product_mean - half_mean * low_mean) / (variance + GUIDE_EVEN)
    b = low_mean - _summed(a * half_mean)
    side = 2 * GUIDE_RANGE + 1
    near, far = F.max_pool2d(low, side, 1, GUIDE_RANGE), -F.max_pool2d(-low, side, 1, GUIDE_RANGE)
    a, b, near, far = upsample_2x(torch.cat((_box(torch.cat((a, b), 1)), near, far), 1)).split((3, 1, 1, 1), 1)
    return torch.minimum(torch.maximum(_summed(a * guide) + b, far), near)


def _box(x: Tensor) -> Tensor:
    """Means over windows; at the border over what lies inside."""
    return F.avg_pool2d(x, 2 * GUIDE_REACH + 1, 1, GUIDE_REACH, count_include_pad=False)


def _summed(x: Tensor) -> Tensor:
    """The sum of the channels, kept as one."""
    return x.sum(1, keepdim=True)
