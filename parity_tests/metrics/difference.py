"""|a − b|, what most metrics begin with."""

import numpy as np

from deeplens.console.errors import MismatchError


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a − b| in float64 (integers don't wrap around).

    Raises:
        MismatchError: the shapes differ; nothing is broadcast.
    """
    check_shapes(a, b)
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is NaN, which no gate passes
        return np.abs(a.astype(np.float64) - b.astype(np.float64))


def check_shapes(a: np.ndarray, b: np.ndarray) -> None:
    """Raise MismatchError unless both have one shape and hold values."""
    if a.shape != b.shape:
        raise MismatchError(f"results of {a.shape} and {b.shape} can't be compared: run both on the same input")
    if a.size == 0:
        raise MismatchError("empty results can't be compared: give an input with pixels")
