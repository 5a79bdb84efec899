"""Differences counted in units in the last place of float32."""

from dataclasses import dataclass

import numpy as np

from deeplens.parity_tests.metrics.difference import check_shapes

BINS = 33
"""0; 1; 2–3; 4–7; …; up to all of float32's numbers."""


@dataclass(frozen=True)
class Ulps:
    """How many float32 numbers lie between two results, value by value.

    Attributes:
        largest: the largest count.
        median: the middle one.
        histogram: number of values by count: [0, 1, 2–3, 4–7, …], `BINS` of them, bin k ≥ 1 holding counts from 2^(k−1)
            to 2^k − 1.
    """

    largest: int
    median: int
    histogram: tuple[int, ...]


def ulps(a: np.ndarray, b: np.ndarray) -> Ulps | None:
    """|i(a) − i(b)|, where i numbers the float32 numbers in order: i(x) is x's bits for x ≥ 0, minus |x|'s bits else.

    Both are rounded to float32 first. Around zero there are very many numbers, so that a tiny difference of two tiny
    values counts much: read it beside the absolute difference.

    Returns:
        None where a value is not finite: it has no neighbours to count.

    Raises:
        MismatchError: the shapes differ.
    """
    check_shapes(a, b)
    with np.errstate(over="ignore", invalid="ignore"):
        x, y = a.astype(np.float32).reshape(-1), b.astype(np.float32).reshape(-1)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    counts = np.abs(_numbered(x) - _numbered(y))
    # A count of 2^k … 2^(k+1) − 1 has k + 1 bits: frexp gives that number exactly.
    bits = np.frexp(counts.astype(np.float64))[1]
    histogram = np.bincount(bits, minlength=BINS)
    return Ulps(int(counts.max()), int(np.median(counts)), tuple(int(each) for each in histogram))


def _numbered(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values).view(np.int32).astype(np.int64)
    return np.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))
