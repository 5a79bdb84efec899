"""From what a tensor held to the largest magnitude that INT8 shall hold: four ways, all symmetric.

minmax       the largest |x| that was seen
percentile   what all but 0.01 % of the values stay below
entropy      the threshold whose 127 levels, spread out again, diverge least from what was seen (Kullback–Leibler)
mse          the threshold with the least squared error: of rounding, s²/12 with s = T/127, and of cutting off
"""

from collections.abc import Callable, Mapping

import numpy as np

from deeplens.calibration.histogram import EDGES, FIRST_INFINITE, Histogram
from deeplens.console.errors import InputError
from deeplens.export.int8 import LEVELS

PERCENTILE = 99.99

ENTROPY_BINS, ENTROPY_LEVELS = 2048, 128
"""Of the histogram that the divergence is counted on, and what it is brought down to."""


def minmax(held: Histogram) -> float:
    """The largest |x|."""
    return held.largest


def percentile(held: Histogram) -> float:
    """|x| that `PERCENTILE` percent do not pass."""
    return held.percentile(PERCENTILE)


def mse(held: Histogram) -> float:
    """Of 200 thresholds from a fiftieth of `largest` up, the one with the least squared error.

    Exact zeros, of which a ReLU makes many, cost nothing at any scale.
    """
    middle = (EDGES[:FIRST_INFINITE] + np.append(EDGES[1:FIRST_INFINITE], EDGES[FIRST_INFINITE - 1])) / 2
    counts = held.counts[:FIRST_INFINITE].astype(np.float64)
    counts[0] -= held.zeros
    used = np.flatnonzero(counts)
    middle, counts = np.minimum(middle[used], held.largest), counts[used]
    best, least = held.largest, np.inf
    for threshold in np.linspace(held.largest / 50, held.largest, 200):
        outside = middle > threshold
        cut = float((counts[outside] * np.square(middle[outside] - threshold)).sum())
        error = cut + float(counts[~outside].sum()) * (threshold / LEVELS) ** 2 / 12
        if error < least:
            best, least = float(threshold), error
    return best


def entropy(held: Histogram) -> float:
    """TensorRT's calibration: the threshold T for which the distribution of |x| up to T, with all beyond counted at T,
    diverges least from itself after it was brought down to `ENTROPY_LEVELS` levels."""
    counts = held.linear(ENTROPY_BINS)
    counts[0] = counts[1]  # zeros say nothing about the scale, and would outweigh all else
    best, least = ENTROPY_BINS, np.inf
    beyond = np.append(np.cumsum(counts[::-1])[::-1], 0.0)
    for stop in range(ENTROPY_LEVELS, ENTROPY_BINS + 1, 8):
        seen = counts[:stop].copy()
        alive = seen > 0
        seen[-1] += beyond[stop]
        kept = _requantised(counts[:stop], alive)
        p, q = seen / seen.sum(), kept / max(kept.sum(), 1e-300)
        where = (p > 0) & (q > 0)
        # What p has where q has nothing can't be told from q at all.
        lost = float(p[(p > 0) & (q <= 0)].sum())
        divergence = float((p[where] * np.log(p[where] / q[where])).sum()) + 30 * lost
        if divergence < least:
            best, least = stop, divergence
    return held.largest * best / ENTROPY_BINS


def _requantised(counts: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Counts brought down to `ENTROPY_LEVELS` levels, each shared out evenly among its bins that hold anything."""
    level = np.arange(len(counts)) * ENTROPY_LEVELS // len(counts)
    sums = np.bincount(level, weights=counts, minlength=ENTROPY_LEVELS)
    bins = np.bincount(level, weights=alive, minlength=ENTROPY_LEVELS)
    return np.where(alive, (sums / np.maximum(bins, 1))[level], 0.0)


CALIBRATORS: Mapping[str, Callable[[Histogram], float]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}


def threshold(held: Histogram, method: str) -> float:
    """The largest magnitude that INT8 shall hold; InputError for an unknown method or a tensor that is 0 throughout."""
    if method not in CALIBRATORS:
        raise InputError(f"unknown calibrator '{method}': choose {', '.join(CALIBRATORS)}")
    if not held.largest > 0:
        raise InputError("a tensor is 0 in all photos: calibrate on more varied photos")
    if held.broken:
        raise InputError(f"a tensor holds {held.broken} values that are not finite: check the weights")
    found = CALIBRATORS[method](held)
    return found if found > 0 else held.largest
