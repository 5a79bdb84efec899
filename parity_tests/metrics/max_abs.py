"""The largest absolute difference."""

import numpy as np

from deeplens.parity_tests.metrics.difference import difference


def max_abs(a: np.ndarray, b: np.ndarray) -> float:
    """max |a − b|."""
    return float(difference(a, b).max())
