"""Where a depth map finer than the loop's own says that a pixel is in focus: there the photo's pixel is the result.

The loop sees depth at half the photo's size at best, and the lens blur sees it at the base. A hair two pixels wide is
lost there, and with it what the map says about it. So a map that is as fine as a level of the loop is asked again at
that level. The photo's share w of a pixel is

    w = clip(2 − 4 · r, 0, 1) · clip(1 − g, 0, 1)

with r the radius of its circle of confusion, and g how far blur of anything nearer than the focal plane reaches past
it, both in pixels of the level. NumPy and Pillow only.
"""

from collections.abc import Sequence

import numpy as np

from deeplens.model.contract import R_MAX
from deeplens.runtimes.pyramid import Geometry, read_window, resize_registered, signed_depth

SHARP_RADIUS, BLURRED_RADIUS = 0.25, 0.5
"""Radii of the circle of confusion, in pixels of the level: the photo's share falls from 1 to 0 between them."""

DIAGONAL = np.float32(2**0.5)


class FinerMap:
    """The disparity map of a photo, asked again at the levels 1 … `last`, which it is as fine as.

    Holds 4 bytes for each pixel of the photo where the map is as large as that, else nothing of that size.

    Args:
        disparity: h×w in [0, 1], near = large; it shows the whole photo.
        registered: what `pyramid.registered_disparity` makes of it.

    Attributes:
        last: the last level that it is as fine as; 0: it is as fine as none.
        finest: the map at level `last`, or where the loop has it finer at `Geometry.finest_depth`; if `last` is not 0.
        nearest: the largest disparity that each base pixel covers; if `last` is not 0.
    """

    def __init__(self, disparity: np.ndarray, registered: np.ndarray, levels: Geometry) -> None:
        self._levels = levels
        self.last = 0
        while self.last < levels.steps and _is_as_fine(disparity, levels.covered(self.last + 1)):
            self.last += 1
        if self.last == 0:
            return
        finest = registered
        if self.last > levels.finest_depth:
            finest = np.asarray(disparity, np.float32)
            if finest.shape != levels.covered(self.last):
                finest = resize_registered(finest, levels, self.last)
        self.finest = finest
        self.nearest = _nearest(finest, levels, max(self.last, levels.finest_depth))

    def shares(
        self,
        depths: Sequence[np.ndarray],
        *,
        focal_disparity: float,
        aperture: float,
        focus_range: float,
        by_level: bool,
    ) -> "SharpShares":
        """The photo's shares for one focal plane and aperture.

        Args:
            depths: what `pyramid.signed_depth_levels` gives for the same photo, focal plane and aperture.
            focal_disparity, aperture, focus_range, by_level: as that takes them.
        """
        focus = (focal_disparity, aperture * self._levels.blur_scale, focus_range)
        before = signed_depth(self.nearest, *focus)
        return SharpShares(
            self._levels,
            depths if by_level else [depth * np.float32(2**level) for level, depth in enumerate(depths)],
            self.finest,
            focus,
            reach(np.maximum(before, 0) * np.float32(R_MAX)),
        )


class SharpShares:
    """The photo's share in the pixels of each level; made by `FinerMap.shares`."""

    def __init__(
        self,
        levels: Geometry,
        depths: Sequence[np.ndarray],
        finest: np.ndarray,
        focus: tuple[float, float, float],
        reached: np.ndarray,
    ) -> None:
        self._levels, self._depths, self._finest, self._focus = levels, depths, finest, focus
        self._reached = reached

    def share(self, level: int, rows: slice, columns: slice) -> np.ndarray:
        """w of a window of a level from 1 up: (h, w), float32, in [0, 1]."""
        if level < len(self._depths):
            signed = np.abs(self._depths[level][0, 0, rows, columns])
        else:
            window = read_window(self._finest[..., None], rows, columns)[..., 0]
            signed = np.abs(signed_depth(window, *self._focus)) * np.float32(2**level)
        radius = signed * np.float32(R_MAX)
        width = np.float32(BLURRED_RADIUS - SHARP_RADIUS)
        own = np.clip((np.float32(BLURRED_RADIUS) - radius) / width, 0, 1)
        if not own.any():
            return own
        reached = enlarged(self._reached, 1 << level, rows, columns) * np.float32(2**level)
        return own * np.clip(1 - reached, 0, 1)

    def apply(self, level: int, rows: slice, columns: slice, blurred: np.ndarray, photo: np.ndarray) -> np.ndarray:
        """share · photo + (1 − share) · blurred, clipped to [0, 1] first, all (1, 3, h, w) of a window of a level."""
        share = self.share(level, rows, columns)
        if not share.any():
            return blurred
        blurred = np.clip(blurred, 0, 1)
        return blurred + share * (photo - blurred)


def reach(radius: np.ndarray) -> np.ndarray:
    """How far discs reach past each pixel: the largest of radius(y) − |x − y| over all pixels y, at least 0.

    Distances are those of walks along rows, columns and diagonals: up to 8 % longer than straight ones.

    Args:
        radius: (h, w), float32, from 0 up, in pixels.
    """
    found = radius
    for _ in range(int(np.ceil(radius.max(initial=0)))):
        wide = np.pad(found, 1, mode="edge")
        beside = np.maximum(
            np.maximum(wide[:-2, 1:-1], wide[2:, 1:-1]), np.maximum(wide[1:-1, :-2], wide[1:-1, 2:])
        ) - np.float32(1)
        across = (
            np.maximum(np.maximum(wide[:-2, :-2], wide[2:, 2:]), np.maximum(wide[:-2, 2:], wide[2:, :-2])) - DIAGONAL
        )
        found = np.maximum(found, np.maximum(beside, across))
    return found


def enlarged(values: np.ndarray, times: int, rows: slice, columns: slice) -> np.ndarray:
    """A window of (h, w) bilinearly enlarged `times`, with half-pixel centres, the border repeated."""
    for axis, window in ((0, rows), (1, columns)):
        position = (np.arange(window.start, window.stop, dtype=np.float32) + np.float32(0.5)) / times - np.float32(0.5)
        position = np.clip(position, 0, values.shape[axis] - 1)
        first = np.minimum(position.astype(np.intp), max(0, values.shape[axis] - 2))
        share = (position - first).reshape((-1, 1) if axis == 0 else (1, -1))
        second = np.minimum(first + 1, values.shape[axis] - 1)
        values = np.take(values, first, axis) * (1 - share) + np.take(values, second, axis) * share
    return values.astype(np.float32, copy=False)


def _is_as_fine(disparity: np.ndarray, size: tuple[int, int]) -> bool:
    return disparity.shape[0] >= size[0] and disparity.shape[1] >= size[1]


def _nearest(disparity: np.ndarray, levels: Geometry, level: int) -> np.ndarray:
    """The largest disparity that each base pixel covers: levels.covered(level) → levels.padded(0)."""
    side, (height, width) = 1 << level, levels.padded(0)
    result = np.empty((height, width), np.float32)
    for row in range(height):
        strip = read_window(disparity[..., None], slice(row * side, (row + 1) * side), slice(0, width * side))
        result[row] = strip.reshape(side, width, side).max((0, 2))
    return result
