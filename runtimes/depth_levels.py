"""Disparity and signed depth at each level of the loop. What does not depend on the focal plane is made once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from deeplens.console.errors import InputError
from deeplens.model.contract import FINER_BASE
from deeplens.runtimes.parts import BLOCK, smallest
from deeplens.runtimes.pyramid import Geometry, pad_to, signed_depth

STRIP_ROWS = 8
"""Rows of the base that are made at a time from the finest level: what lies between stays in the cache."""

READ_ROWS = 16 * BLOCK
"""Rows of a level whose blocks are looked at at a time."""


@dataclass(frozen=True)
class FocalPlane:
    """What a person chooses.

    Attributes:
        focal_disparity: d_f, the disparity that is sharp, in [0, 1].
        aperture: α, in [0, 1].
        focus_range: w, the width in disparity of what is sharp, d_f in its middle; 0: a plane.

    Raises:
        InputError: one of them is not in [0, 1].
    """

    focal_disparity: float
    aperture: float
    focus_range: float = 0.0

    def __post_init__(self) -> None:
        for name in ("focal_disparity", "aperture", "focus_range"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise InputError(f"{name} must be from 0 to 1, not {value:g}")


class DepthLevels:
    """A photo's disparity at each level from 0 to `Geometry.finest_depth`: a third more than the finest alone.

    Args:
        registered: D in [0, 1], near = large, as `pyramid.registered_disparity` gives it.
    """

    def __init__(self, registered: np.ndarray, levels: Geometry) -> None:
        self.levels = levels
        maps = [pad_to(registered[None, None], *levels.padded(levels.finest_depth))]
        while len(maps) <= levels.finest_depth:
            maps.append(_halved(maps[-1]))
        self.maps = maps[::-1]
        """(1, 1, *levels.padded(k)), float32, base first; each is the 2×2 mean of the next, which is bilinear."""
        self._bounds: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self.maps)

    def bounds(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest disparity of each block of a level, (rows, columns) of blocks; made once."""
        if level not in self._bounds:
            self._bounds[level] = _bounds(self.maps[level][0, 0])
        return self._bounds[level]

    def signed(self, plane: FocalPlane, *, by_level: bool) -> "SignedDepths":
        """Signed depth for a focal plane; made level by level, when it is asked for.

        Args:
            by_level: times 2^k at level k, clipped to [-1, 1]: see `model.contract.Variant`.
        """
        return SignedDepths(self, plane, by_level=by_level)


class SignedDepths(Sequence[np.ndarray]):
    """D̃ = (D − d_f) · α · `Geometry.blur_scale` at level k, (1, 1, *padded(k)), float32, in [-1, 1].

    With a plane in focus the mean of signed depths is the signed depth of the mean, as |D − d_f| ≤ 1 is never clipped:
    each level comes from its own disparity. With a range, all come from the finest.
    """

    def __init__(self, depth: DepthLevels, plane: FocalPlane, *, by_level: bool) -> None:
        self._depth, self._by_level = depth, by_level
        self._range = plane.focus_range > 0
        self._focus = plane.focal_disparity, plane.aperture * depth.levels.blur_scale, plane.focus_range
        self._made: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._depth.maps)

    @overload
    def __getitem__(self, level: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, level: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, level: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(level, slice):
            return [self[each] for each in range(*level.indices(len(self)))]
        if not 0 <= level < len(self):
            raise IndexError(level)
        if level not in self._made:
            if self._range and level:
                self._from_finest()
            else:
                self._made[level] = self._scaled(level, self._base() if self._range else self._at(level))
        return self._made[level]

    def window(self, level: int) -> Callable[[slice, slice], np.ndarray]:
        """What gives rows and columns of a level, (1, 1, rows, columns). With a plane in focus no level is made."""
        if self._range:
            made = self[level]
            return lambda rows, columns: made[:, :, rows, columns]
        disparity = self._depth.maps[level]
        return lambda rows, columns: self._scaled(level, signed_depth(disparity[:, :, rows, columns], *self._focus))

    def extremes(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest |D̃| of each block of a level, (rows, columns) of blocks.

        Of a block that the focal plane crosses the smallest is 0, even where no pixel lies on the plane.
        """
        if self._range:
            low, high = _bounds(self[level][0, 0])
        else:
            low, high = (self._scaled(level, signed_depth(each, *self._focus)) for each in self._depth.bounds(level))
        nearer, farther = np.abs(low), np.abs(high)
        return np.where((low <= 0) & (high >= 0), 0, np.minimum(nearer, farther)), np.maximum(nearer, farther)

    def _at(self, level: int) -> np.ndarray:
        return signed_depth(self._depth.maps[level], *self._focus)

    def _scaled(self, level: int, depth: np.ndarray) -> np.ndarray:
        if self._by_level and level:
            np.clip(depth * np.float32(2**level), -1.0, 1.0, out=depth)
        return depth

    def _from_finest(self) -> None:
        depth = self._at(len(self) - 1)
        for level in range(len(self) - 1, -1, -1):
            below = _halved(depth) if level else depth
            self._made[level] = self._scaled(level, depth)
            depth = below

    def _base(self) -> np.ndarray:
        """The base alone, from the finest level strip by strip."""
        finest, side = self._depth.maps[-1], 1 << (len(self) - 1)
        result = np.empty_like(self._depth.maps[0])
        for top in range(0, result.shape[2], STRIP_ROWS):
            strip = signed_depth(finest[:, :, top * side : (top + STRIP_ROWS) * side], *self._focus)
            for _ in range(len(self) - 1):
                strip = _halved(strip)
            result[:, :, top : top + STRIP_ROWS] = strip
        return result


def signed_depth_levels(
    disparity: np.ndarray,
    levels: Geometry,
    *,
    focal_disparity: float,
    aperture: float,
    focus_range: float = 0.0,
    by_level: bool = False,
) -> list[np.ndarray]:
    """All `SignedDepths` of a disparity map that `pyramid.registered_disparity` gave, base first."""
    plane = FocalPlane(focal_disparity, aperture, focus_range)
    return list(DepthLevels(disparity, levels).signed(plane, by_level=by_level))


def finer_share(most: float) -> float:
    """The share of the loop that begins at level 1, where `most` is the base's largest |D̃|.

    See `model.contract.Variant`.
    """
    whole, none = FINER_BASE
    return min(1.0, max(0.0, (none - most) / (none - whole)))


def _bounds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest value of each block of (h, w); strip by strip, so that no level is copied."""
    strips = [values[top : top + READ_ROWS] for top in range(0, len(values), READ_ROWS)]
    return np.concatenate([smallest(each) for each in strips]), np.concatenate([-smallest(-each) for each in strips])


def _halved(depth: np.ndarray) -> np.ndarray:
    """The 2×2 means of (1, 1, h, w)."""
    rows = depth[..., 0::2, :] + depth[..., 1::2, :]
    return (rows[..., 0::2] + rows[..., 1::2]) * np.float32(0.25)
