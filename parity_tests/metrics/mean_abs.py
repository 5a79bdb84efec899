"""The mean absolute difference."""

import numpy as np

from deeplens.parity_tests.metrics.difference import difference


def mean_abs(a: np.ndarray, b: np.ndarray) -> float:
    """Σ |a − b| / number of values."""
    return float(difference(a, b).mean())
