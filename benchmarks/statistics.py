"""From many timings to a few numbers: percentiles, and a ratio with its spread. Pure Python and NumPy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Seconds of many runs. Percentiles are interpolated linearly between the sorted runs."""

    runs: int
    p50: float
    p90: float
    p99: float
    min: float
    max: float
    mean: float

    @staticmethod
    def of(seconds: Sequence[float]) -> "Summary":
        """From at least one run."""
        p50, p90, p99 = (float(each) for each in np.percentile(seconds, (50, 90, 99)))
        return Summary(len(seconds), p50, p90, p99, min(seconds), max(seconds), float(np.mean(seconds)))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Ratio:
    """How many times faster, by the median over rounds, and the interval that holds the true median.

    Attributes:
        low, high: order statistics of the rounds' ratios, which need no assumption about how they are distributed.
        coverage: the probability that the interval holds the median: at least the one asked for where there are rounds
            enough, else what the smallest and the largest give.
    """

    ratio: float
    low: float
    high: float
    coverage: float
    rounds: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def paired_ratio(baseline: Sequence[float], candidate: Sequence[float], *, coverage: float = 0.95) -> Ratio:
    """baseline / candidate, within each round: a drift of the machine's speed hits both alike.

    Args:
        baseline, candidate: seconds of the same rounds, in order.
    """
    ratios = sorted(b / c for b, c in zip(baseline, candidate, strict=True))
    low, high, covered = median_interval(ratios, coverage=coverage)
    return Ratio(float(np.median(ratios)), low, high, covered, len(ratios))


def median_interval(ordered: Sequence[float], *, coverage: float) -> tuple[float, float, float]:
    """The innermost pair of order statistics that holds the median with at least `coverage`.

    P(x_(k) ≤ median ≤ x_(n+1−k)) = 1 − 2 · Σ_(i<k) C(n, i) / 2ⁿ, for any continuous distribution.

    Returns:
        low, high and the coverage that they have; the outermost pair where even that has less.
    """
    n = len(ordered)
    best, below = 0, 0.0
    for k in range(1, (n + 1) // 2 + 1):
        below += comb(n, k - 1) / 2**n
        if 1 - 2 * below < coverage and k > 1:
            break
        best = k
    outside = sum(comb(n, i) for i in range(best)) / 2**n
    return ordered[best - 1], ordered[n - best], max(0.0, 1 - 2 * outside)
