"""How far two results are apart. Differences are taken in double precision; a NaN on either side gives a NaN."""

import math
from dataclasses import dataclass

import numpy as np

from model.errors import MismatchError


@dataclass(frozen=True)
class Shares:
    """Shares of an 8-bit picture's pixels, in [0, 1], by the difference of their most different channel.

    Attributes:
        same, one, more: off by 0, by 1, by more than 1.
    """

    same: float
    one: float
    more: float


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a − b| in float64 (integers don't wrap around).

    Raises:
        MismatchError: the shapes differ; nothing is broadcast.
    """
    if a.shape != b.shape:
        raise MismatchError(f"results of {a.shape} and {b.shape} can't be compared: run both on the same input")
    if a.size == 0:
        raise MismatchError("empty results prove nothing: give an input with pixels")
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is NaN, which no gate passes
        return np.abs(a.astype(np.float64) - b.astype(np.float64))


def max_abs(a: np.ndarray, b: np.ndarray) -> float:
    """max |a − b|."""
    return float(difference(a, b).max())


def mean_abs(a: np.ndarray, b: np.ndarray) -> float:
    """Σ |a − b| / number of values."""
    return float(difference(a, b).mean())


def psnr(result: np.ndarray, reference: np.ndarray) -> float:
    """10 · log10(1 / mean (result − reference)²) in dB, with a data range of 1.0 (not the picture's own peak).

    Infinite where the two are equal.
    """
    mean_square = float(np.square(difference(result, reference)).mean())
    return math.inf if mean_square == 0.0 else -10.0 * math.log10(mean_square)


def relative_to_spread(result: np.ndarray, reference: np.ndarray) -> float:
    """max |result − reference| / (max reference − min reference).

    An output that hardly varies has small absolute errors whatever is wrong; its spread shows that, its offset doesn't.
    For a constant reference 0 where the two are equal, otherwise infinite.
    """
    largest = max_abs(result, reference)
    spread = float(reference.max()) - float(reference.min())
    if spread == 0.0:
        return largest if largest == 0.0 or math.isnan(largest) else math.inf
    return largest / spread


def pixel_shares(result: np.ndarray, reference: np.ndarray) -> Shares:
    """Shares of the pixels of two pictures, H×W×3, uint8, that are the same, off by 1, off by more.

    Raises:
        MismatchError: not 8-bit pictures of one size.
    """
    if result.dtype != np.uint8 or reference.dtype != np.uint8 or result.ndim != 3:
        raise MismatchError(f"pictures of H×W×3 and 8 bits are due, not {result.shape} of {result.dtype}")
    most = difference(result, reference).max(axis=2)
    return Shares(float((most == 0).mean()), float((most == 1).mean()), float((most > 1).mean()))
