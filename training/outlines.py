"""How a disparity map crosses an outline: the width of its step and how far it lies from the outline.

Both are in thousandths of the long side. The map is sampled along the outline's normal to `REACH` of the long side on
either side; the plateaus are the medians of the outermost samples. Width: from 10 to 90 % of the step. Offset: the
distance from the outline to the 50 % crossing. Both are medians over the outline. A straight Gaussian edge of deviation
σ has the width 2.563 σ.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter, map_coordinates, minimum_filter

from deeplens.scenes.renderer import Array

REACH = 0.04
"""How far the map is sampled to either side of an outline, as a share of the long side."""

SAMPLES, PLATEAU, FEWEST = 81, 8, 20
"""Samples on a normal, how many of them at either end are a plateau, and how many normals an outline has at least."""

LEAST = 0.15
"""Of a map's range: a smaller step at the outline is none."""

CLEAN = 0.25
"""Of the step of a true map: how far it may rise apart from its step, for the outline to be taken."""


CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


@dataclass(frozen=True)
class Outline:
    """How a map crosses an outline.

    Attributes:
        width, offset: in thousandths of the long side; None where the map has hardly a step at the outline.
        found: the share of the outline at which it has one.
    """

    width: float | None
    offset: float | None
    found: float


def at_matte(disparity: Array, matte: Array) -> Outline | None:
    """How a map crosses a subject's outline, or None where the matte has none.

    Args:
        disparity: (H, W), near = large, of any unit.
        matte: (H, W) in [0, 1], 1 inside the subject; its 0.5 contour is the outline.
    """
    inside = matte > 0.5
    if not inside.any() or inside.all():
        return None
    long_side = max(matte.shape)
    signed = distance_transform_edt(inside) - distance_transform_edt(~inside)
    signed = np.where(inside, signed - 0.5, signed + 0.5)  # 0 on the contour, between two pixels
    where, t = _normals(signed, inside & ~binary_erosion(inside), start=signed)
    side = map_coordinates(signed, where, order=1, mode="nearest")
    leaves = (side[:, 0] < -0.5 * REACH * long_side) & (side[:, -1] > 0.5 * REACH * long_side)
    profiles = map_coordinates(disparity, where, order=1, mode="nearest")[leaves]
    return _crossed(profiles, t, least=np.full(len(profiles), LEAST * float(np.ptp(disparity))), long_side=long_side)


def at_steps(disparity: Array, truth: Array, *, least: float = 0.1) -> Outline | None:
    """How a map crosses the steps of a true one, or None where that has too few.

    A step is taken where the truth is one along its normal: flat on either side of it, but for `CLEAN` of it.

    Args:
        disparity: (H, W), near = large, of any unit.
        truth: (H, W) in [0, 1], exact.
        least: of the truth's steps that count. The map must have 0.3 of it, by its own range.
    """
    long_side = max(truth.shape)
    down = truth - minimum_filter(truth, footprint=CROSS)  # how far the truth falls from a pixel to its neighbours
    where, t = _normals(gaussian_filter(truth.astype(np.float64), 2), down > least, start=None)
    true = map_coordinates(truth, where, order=1, mode="nearest")
    middle, margin = SAMPLES // 2, SAMPLES // 12
    low, high = np.median(true[:, :PLATEAU], 1), np.median(true[:, -PLATEAU:], 1)
    step = high - low
    flat = (np.ptp(true[:, : middle - margin], axis=1) < CLEAN * step) & (
        np.ptp(true[:, middle + margin :], axis=1) < CLEAN * step
    )
    clean = flat & (step > least)
    profiles = map_coordinates(disparity, where, order=1, mode="nearest")[clean]
    share = step[clean] / max(float(np.ptp(truth)), 1e-9)
    centre = _crossing((true[clean] - low[clean, None]) / np.maximum(step[clean, None], 1e-9), t, 0.5)
    return _crossed(profiles, t, least=0.3 * share * float(np.ptp(disparity)), long_side=long_side, centre=centre)


def _normals(
    height: NDArray[np.float64], contour: NDArray[np.bool_], *, start: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where to sample: rows and columns (2, n, SAMPLES) on the normals at a contour, and the distances, in pixels.

    Normals point to where `height` grows. `start`: by how much a contour's pixel lies beyond the outline.
    """
    gy, gx = np.gradient(gaussian_filter(height, 2) if start is not None else height)
    norm = np.hypot(gx, gy) + 1e-9
    ys, xs = np.nonzero(contour)
    rows, columns = contour.shape
    keep = (ys > 3) & (xs > 3) & (ys < rows - 4) & (xs < columns - 4)
    ys, xs = ys[keep], xs[keep]
    t = np.linspace(-REACH, REACH, SAMPLES) * max(contour.shape)
    back = start[ys, xs][:, None] if start is not None else 0.0
    along = t[None] - back
    ny, nx = (gy / norm)[ys, xs][:, None], (gx / norm)[ys, xs][:, None]
    return np.stack((ys[:, None] + along * ny, xs[:, None] + along * nx)), t


def _crossed(
    profiles: NDArray[np.float64],
    t: NDArray[np.float64],
    *,
    least: NDArray[np.float64],
    long_side: int,
    centre: NDArray[np.float64] | None = None,
) -> Outline | None:
    """The medians over profiles (n, SAMPLES) that rise by more than `least`; None where there are hardly any profiles.

    `centre`: where the outline is on each.
    """
    if len(profiles) < FEWEST:
        return None
    low, high = np.median(profiles[:, :PLATEAU], 1), np.median(profiles[:, -PLATEAU:], 1)
    steps = high - low > least
    if steps.sum() < FEWEST:
        return Outline(None, None, float(steps.mean()))
    share = (profiles[steps] - low[steps, None]) / (high - low)[steps, None]
    middle = _crossing(share, t, 0.5) - (0.0 if centre is None else centre[steps])
    width = np.median(_crossing(share, t, 0.9) - _crossing(share, t, 0.1))
    offset = np.median(np.abs(middle))
    return Outline(float(width) * 1000 / long_side, float(offset) * 1000 / long_side, float(steps.mean()))


def _crossing(share: NDArray[np.float64], t: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Where each profile first reaches a level, between samples linearly."""
    first = np.clip((share >= level).argmax(1), 1, SAMPLES - 1)
    row = np.arange(len(share))
    before, after = share[row, first - 1], share[row, first]
    rise = np.where(np.abs(after - before) < 1e-6, 1e-6, after - before)
    return t[first - 1] + (level - before) / rise * (t[1] - t[0])
