"""Are the steps of a disparity map where the true ones are? Precision and recall of depth steps, over the whole map.

After Depth Pro's boundary score (Bochkovskii et al. 2024, section 4): a pair of pixels is a step where the nearer is
nearer by more than a threshold. Theirs is a ratio of metric depths; a relative disparity has no ratio, so that here it
is a difference, in shares of the truth's range, of a map that is first brought to the truth's scale and offset by least
squares. Pixels of a pair are `APART` of the long side apart, so that a step one pixel off counts half, not nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeplens.scenes.renderer import Array

THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25)
"""Steps in shares of the truth's range; each weighs as much as it is high, as in Depth Pro."""

APART = 1 / 160
"""How far the pixels of a pair are from each other, as a share of the long side; at least one pixel."""


@dataclass(frozen=True)
class Boundary:
    """Scores in [0, 1], weighted means over `THRESHOLDS`; a map's own truth has 1 in all.

    Attributes:
        precision: of the map's steps, the share that the truth has.
        recall: of the truth's steps, the share that the map has.
        f1: the harmonic mean of both, at each threshold.
    """

    precision: float
    recall: float
    f1: float


def boundary(disparity: Array, truth: Array, *, known: NDArray[np.bool_] | None = None) -> Boundary | None:
    """The scores of a map (H, W) of any scale against a true one (H, W), or None where the truth has no step.

    Args:
        known: where the truth is known, (H, W); everywhere without. A pair counts where both of its pixels are known.
    """
    inside = np.ones(truth.shape, bool) if known is None else known
    if not inside.any():
        return None
    span = float(np.ptp(truth[inside]))
    if not span:
        return None
    true = (truth - truth[inside].min()) / span
    true_rises = _rises(true, inside)
    rises = _rises(aligned(disparity, true, inside), inside)
    found, total = np.zeros(3), 0.0
    for threshold in THRESHOLDS:
        real = np.abs(true_rises) > threshold
        if not real.any():
            continue
        own = np.abs(rises) > threshold
        both = float((real & own & (np.sign(rises) == np.sign(true_rises))).sum())
        precision, recall = both / max(1, own.sum()), both / real.sum()
        f1 = 2 * precision * recall / (precision + recall) if both else 0.0
        found += threshold * np.array((precision, recall, f1))
        total += threshold
    return Boundary(*(float(each) for each in found / total)) if total else None


def matte_recall(disparity: Array, matte: Array) -> float | None:
    """Of the pairs across a matte's contour, the share at which the map steps down, as in Depth Pro for real photos.

    Weighted over `THRESHOLDS`, in shares of the map's own range. None where the matte has no contour.

    Args:
        disparity, matte: (H, W), near and inside = large; the matte in [0, 1].
    """
    inside = matte > 0.5
    everywhere = np.ones(matte.shape, bool)
    across = _rises(inside.astype(np.float64), everywhere)
    if not across.any():
        return None
    rises = _rises(disparity / max(float(np.ptp(disparity)), 1e-9), everywhere)[across != 0]
    sign = np.sign(across[across != 0])
    shares = [float((sign * rises > threshold).mean()) for threshold in THRESHOLDS]
    return float(np.average(shares, weights=THRESHOLDS))


def aligned(disparity: Array, truth: Array, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The map at the scale and offset closest to the truth, both (H, W); flat where it runs against it."""
    own, true = disparity[known].astype(np.float64), truth[known].astype(np.float64)
    spread = float(own.var())
    scale = max(0.0, float(np.mean((own - own.mean()) * (true - true.mean()))) / spread) if spread else 0.0
    return (disparity.astype(np.float64) - own.mean()) * scale + true.mean()


def _rises(values: NDArray, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The differences of all pairs, along rows and columns, in one list: 0 where one of them is unknown."""
    apart = max(1, round(APART * max(values.shape)))
    found = []
    for axis in (0, 1):
        if values.shape[axis] <= apart:
            continue
        last = values.shape[axis] - apart
        first, second = (np.take(values, range(start, start + last), axis) for start in (0, apart))
        both = np.take(known, range(last), axis) & np.take(known, range(apart, apart + last), axis)
        found.append(np.where(both, second.astype(np.float64) - first, 0.0).ravel())
    return np.concatenate(found) if found else np.zeros(0)
