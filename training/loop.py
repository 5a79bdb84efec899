"""The loop of lens blur and ×2 steps in PyTorch, differentiable, as the fit runs it on whole square scenes.

At inference `runtimes.harness` owns these steps, in NumPy and in tiles; a test holds the two to the same numbers.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def halve(picture: Tensor) -> Tensor:
    """2×2 area average in approximate linear light, sqrt(mean(x²)): (N, 3, 2h, 2w) → (N, 3, h, w) in [0, 1]."""
    return torch.sqrt(F.avg_pool2d(picture * picture, 2) + 1e-12)


def pyramid(picture: Tensor, steps: int) -> list[Tensor]:
    """The picture at all levels, base first: `steps` + 1 of them."""
    levels = [picture]
    for _ in range(steps):
        levels.insert(0, halve(levels[0]))
    return levels


def run_loop(
    lens_blur: Callable[[Tensor, Tensor], Tensor],
    upsample: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    pictures: list[Tensor],
    signed_depth: Tensor,
    *,
    by_level: bool = False,
) -> list[Tensor]:
    """Blurred pictures at all levels, base first.

    Args:
        pictures: the photo at all levels, base first, (N, 3, h·2^k, w·2^k) in [0, 1].
        signed_depth: (N, 1, h·2^n, w·2^n) at the full size, in [-1, 1]; averaged down to each level.
        by_level: what the steps get is in units of their level: see `model.contract.Variant`.
    """
    depths = [signed_depth]
    for _ in pictures[1:]:
        depths.insert(0, F.avg_pool2d(depths[0], 2))
    blurred = [lens_blur(pictures[0], depths[0])]
    for level in range(len(pictures) - 1):
        low = blurred[-1].clamp(0.0, 1.0)
        depth = (depths[level] * 2**level).clamp(-1.0, 1.0) if by_level else depths[level]
        blurred.append(upsample(pictures[level + 1], pictures[level], low, depth))
    return blurred
