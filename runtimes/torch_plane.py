"""The focal plane on PyTorch's device: what the host decides by, three numbers, and the signed depth that they make.

See `runtimes.depth_levels` and `runtimes.focusing`, which do the same in NumPy on the host.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deeplens.model.contract import FINER_BASE, Variant
from deeplens.runtimes.depth_levels import FocalPlane, finer_share
from deeplens.runtimes.pyramid import Geometry


@dataclass(frozen=True)
class Plan:
    """What the host decides by a focal plane; what is recorded for one plan is right for all planes that have it.

    Attributes:
        level: the last that is made.
        finer: how level 1 is made: 0, by the step from the base; 1, by the lens blur; 0.5, by both, mixed.
        ranged: whether a range of disparities is in focus.
    """

    level: int
    finer: float
    ranged: bool

    @property
    def first(self) -> int:
        """The level that the lens blur begins at."""
        return int(self.finer == 1)


class Planes:
    """A focal plane in a tensor that stays where it is: the next plane is written over it.

    Attributes:
        numbers: d_f, α · `Geometry.blur_scale`, and half of the range in focus; float32.
    """

    def __init__(self, device: torch.device, variant: Variant, levels: Geometry) -> None:
        self._variant, self._levels = variant, levels
        self.numbers = torch.zeros(3, dtype=torch.float32, device=device)

    def numbers_of(self, plane: FocalPlane) -> np.ndarray:
        """What `numbers` has for a plane."""
        scale = plane.aperture * self._levels.blur_scale
        return np.array([plane.focal_disparity, scale, plane.focus_range / 2], np.float32)

    def signed(self, disparity: Tensor, *, ranged: bool) -> Tensor:
        """See `runtimes.pyramid.signed_depth`."""
        focal, scale, half = self.numbers
        signed = disparity - focal
        if ranged:
            signed = signed - signed.clamp(-half, half)
        return (signed * scale).clamp(-1.0, 1.0)

    def depths(self, maps: Sequence[Tensor], *, ranged: bool) -> list[Tensor]:
        """See `runtimes.depth_levels.SignedDepths`: of disparities at each level, base first."""
        if ranged:
            found = [self.signed(maps[-1], ranged=True)]
            for _ in maps[1:]:
                found.append(F.avg_pool2d(found[-1], 2))
            found.reverse()
        else:
            found = [self.signed(each, ranged=False) for each in maps]
        if not self._variant.depth_by_level:
            return found
        return [depth if not level else (depth * 2.0**level).clamp(-1.0, 1.0) for level, depth in enumerate(found)]

    @property
    def has_finer(self) -> bool:
        """Whether the loop may begin above the base."""
        return self._variant.finer_base and self._levels.steps > 0

    def share(self, plane: FocalPlane, extremes: Sequence[float]) -> float:
        """The share of the lens blur in level 1, of a plane without a range in focus: see `runtimes.focusing`.

        Args:
            extremes: the least and the largest disparity of the base.
        """
        if not self.has_finer:
            return 0.0
        focal, scale, _ = self.numbers_of(plane)
        return finer_share(max(float(abs(np.float32(each) - focal) * scale) for each in extremes))

    def share_of_depth(self, base: Tensor) -> Tensor:
        """The same on the device, from the signed depth of the base."""
        whole, none = FINER_BASE
        return ((none - base.abs().amax()) / (none - whole)).clamp(0.0, 1.0)
